"""What is said of a weight file that cannot be used.

``PYTHONPATH=tests/support:tests/support/networks python tests/export/checkpoints/test_checkpoint_messages.py`` writes
the table of messages in docs/checkpoints.md anew.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
from models import saved
from zero_weights import STEM, d0, weights_of

from edgedet.errors import EdgeDetError
from edgedet.export.checkpoints.checkpoint import load_checkpoint

DOCS = Path(__file__).resolve().parents[3] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- messages: begin -->\n", "<!-- messages: end -->"
LATERAL = "fpn.resample.3.conv.conv.weight"  # (64, 320, 1, 1) in D0


class RunsACommand:
    def __reduce__(self):
        return os.system, ("true",)


# What is wrong -> (how the file comes about, model that the user named)
CASES: dict[str, tuple[Callable[[Path], None], str | None]] = {}


def case(title: str, wanted: str | None = None):
    def keep(make: Callable[[Path], None]) -> None:
        CASES[title] = (make, wanted)

    return keep


@case("one tensor missing")
def _(path):
    state = d0()
    del state[LATERAL]
    saved(state, path)


@case("one tensor too many")
def _(path):
    saved({**d0(), "fpn.extra.weight": torch.zeros(3)}, path)


@case("one tensor transposed")
def _(path):
    saved({**d0(), LATERAL: d0()[LATERAL].transpose(0, 1)}, path)


@case("one number is NaN")
def _(path):
    saved({**d0(), STEM: d0()[STEM].index_fill(0, torch.tensor(3), float("nan"))}, path)


@case("D1 weights called D0", "tf_efficientdet_d0")
def _(path):
    saved(weights_of("tf_efficientdet_d1"), path)


@case("91 names for 90 classes", "tf_efficientdet_d0")
def _(path):
    saved(d0(), path)
    path.with_suffix(".json").write_text('{"classes": [' + ", ".join(f'"{i}"' for i in range(91)) + "]}")


@case("an archive that grows when it is unpacked")
def _(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), bytes(10_000_000), zipfile.ZIP_DEFLATED)


@case("a pickle that calls os.system")
def _(path):
    saved({**d0(), "x": RunsACommand()}, path)


@case("a whole pickled model")
def _(path):
    torch.save(torch.nn.Linear(2, 2), path)


@case("a file that is cut off")
def _(path):
    saved(d0(), path)
    path.write_bytes(path.read_bytes()[:100_000])


@case("a web page saved as .pth")
def _(path):
    path.write_text("<!DOCTYPE html><html><title>Not found</title></html>")


@case("an empty file")
def _(path):
    path.write_bytes(b"")


@case("D6 and D7, which share all tensors, under a name that does not tell")
def _(path):
    saved(weights_of("tf_efficientdet_d6"), path)


@case("weights of another network")
def _(path):
    saved({"layer1.0.conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, path)


@case("a backbone without its detector")
def _(path):
    saved({name: value for name, value in d0().items() if name.startswith("backbone.")}, path)


def message_of(title: str, folder: Path) -> str:
    """What is said of one case's file, with the folder taken out."""
    make, wanted = CASES[title]
    make(folder / "weights.pth")
    with pytest.raises(EdgeDetError) as raised:
        load_checkpoint(folder / "weights.pth", wanted)
    assert raised.value.exit_code == 2
    return str(raised.value).replace(f"{folder}{os.sep}", "")


def table_of(messages: dict[str, str]) -> str:
    rows = [f"| {title} | {message.replace('|', '/')} |" for title, message in messages.items()]
    return "\n".join(["| file | message |", "|---|---|", *rows]) + "\n"


def documented() -> dict[str, str]:
    rows = DOCS.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].splitlines()[2:]
    return dict(row.strip("| ").split(" | ") for row in rows)


@pytest.mark.parametrize("title", CASES)
def test_an_unusable_file_is_refused_with_the_documented_message(title, tmp_path):
    message = message_of(title, tmp_path)
    assert "\n" not in message
    assert documented()[title] == message.replace("|", "/")


def test_the_documented_table_has_these_cases_and_no_others():
    assert list(documented()) == list(CASES)


def write_table() -> None:
    """Write the table of messages into docs/checkpoints.md."""
    messages = {}
    for title in CASES:
        with tempfile.TemporaryDirectory() as folder:
            messages[title] = message_of(title, Path(folder))
    text = DOCS.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCS.write_text(before + BEGIN + table_of(messages) + END + after, encoding="utf-8")


if __name__ == "__main__":
    write_table()
