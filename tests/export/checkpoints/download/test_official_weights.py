"""The official weights: which there are, and an export that fetches them."""

from __future__ import annotations

import hashlib
import re

import pytest

from edgedet.cli import main
from edgedet.errors import InputError
from edgedet.export.checkpoints import registry
from edgedet.export.checkpoints.registry import PRETRAINED, find_url, hash_prefix
from edgedet.specs import SPECS


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> tuple[str, bytes]:
    """Name and content of a file like the official ones: Lite0 with random weights."""
    torch = pytest.importorskip("torch", reason="needs the export extra")
    from edgedet.export.network.efficientdet import EfficientDet

    path = tmp_path_factory.mktemp("official") / "weights.pth"
    torch.save(EfficientDet(SPECS["tf_efficientdet_lite0"]).state_dict(), path)
    body = path.read_bytes()
    return f"tf_efficientdet_lite0-{hashlib.sha256(body).hexdigest()[:8]}.pth", body


def test_export_without_weights_fetches_the_official_ones(serve, tmp_path, monkeypatch, capsys, official):
    name, body = official
    server = serve(lambda handler: handler.answer(200, body) or True)
    monkeypatch.setattr(registry, "RELEASE", f"http://127.0.0.1:{server.server_port}/v0.1")
    monkeypatch.setitem(registry.PRETRAINED, "tf_efficientdet_lite0", name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [
        "export",
        "--variant",
        "tf_efficientdet_lite0",
        "--size",
        "128x128",
        "--out",
        str(tmp_path),
        "--threads",
        "1",
    ]
    for _ in range(2):  # the second time from the cache
        assert main(command) == 0
        assert (
            f"wrote {tmp_path / name.replace('.pth', '.onnx')}: tf_efficientdet_lite0, 128x128"
            in capsys.readouterr().out
        )
    assert [path for path, _ in server.requests] == [f"/v0.1/{name}"]


@pytest.mark.usefixtures("serve")  # takes the proxies out of the environment
def test_export_without_weights_and_network_exits_with_2_and_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs the export extra")
    monkeypatch.setattr(registry, "RELEASE", "http://127.0.0.1:1/v0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["export", "--phi", "0", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"edgedet: cannot reach 127\.0\.0\.1 .*--weights FILE, or --weights demo .*\n", said.err)
    assert not (tmp_path / "out").exists()


def test_every_model_of_the_table_has_official_weights():
    assert {name for name in SPECS if name.startswith("tf_")} < set(PRETRAINED) < set(SPECS)
    assert find_url("tf_efficientdet_d0").endswith("/v0.1/tf_efficientdet_d0_34-f153e0cf.pth")
    assert all(re.fullmatch("[0-9a-f]{8}", hash_prefix(find_url(name))) for name in PRETRAINED)
    with pytest.raises(
        InputError, match="no official weights for tf_efficientdet_d9; there are for tf_efficientdet_d0,"
    ):
        find_url("tf_efficientdet_d9")
