"""Damaged files of every kind, given to the commands that read them: one line, a documented exit code, nothing left.

Two mutations of each file in every run, and more than two hundred in all in `make slow`. A mutation that fails is made
again by its seed.
"""

from __future__ import annotations

import json
import random
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from media import SIZE_WH, write_clip, write_fake_model

from edgedet import cli

torch = pytest.importorskip("torch", reason="needs the export extra")
cv2 = pytest.importorskip("cv2", reason="pictures are read by OpenCV")
h5py = pytest.importorskip("h5py", reason="needs the export extra")
pytest.importorskip("pycocotools", reason="needs the bench extra")
save_file = pytest.importorskip("safetensors.torch", reason="needs the export extra").save_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FAST, ALL = 2, 15  # mutations of each file
DOCUMENTED = (0, 1, 2, 3)

# File that is damaged -> command that reads it; what it writes is in the folder "out".
TARGETS = {
    "model.fake": ["run", "model.fake", "--source", "picture.png", "--jsonl", "out/a.jsonl", "--json", "out/a.json"],
    "model.tflite": ["info", "model.tflite", "--json", "out/a.json"],
    "picture.png": ["run", "good.fake", "--source", "picture.png", "--save", "out/a.png", "--jsonl", "out/a.jsonl"],
    "picture.jpg": ["run", "good.fake", "--source", "picture.jpg", "--json", "out/a.json"],
    "clip.avi": ["run", "good.fake", "--source", "clip.avi", "--save", "out/a.avi", "--jsonl", "out/a.jsonl"],
    "clip.mp4": ["run", "good.fake", "--source", "clip.mp4", "--jsonl", "out/a.jsonl"],
    "weights.pth": ["import", "weights.pth", "-o", "out/a.safetensors"],
    "weights.safetensors": ["export", "--weights", "weights.safetensors", "--out", "out"],
    "weights.h5": ["import", "weights.h5", "-o", "out/a.safetensors"],
    "tf_checkpoint.tar.gz": ["import", "tf_checkpoint.tar.gz", "-o", "out/a.safetensors"],
    "project.yml": ["import", "weights.pth", "--project", "project.yml", "-o", "out/a.safetensors"],
    "classes.names": ["import", "weights.pth", "--names", "classes.names", "-o", "out/a.safetensors"],
    "labels.json": ["eval", "good.fake", "--data", "labels.json", "--json", "out/a.json"],
    "bench.json": ["bench", "compare", "bench.json", "bench2.json"],
    "plan.json": ["plan", "--from", "plan.json", "--fps", "10", "--json", "out/a.json"],
}


def write_inputs() -> None:
    """Write a good file of each kind into the working folder."""
    for name in ("model.fake", "good.fake"):
        write_fake_model(Path(name))
    noise = np.random.default_rng(0).integers(0, 256, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    for name in ("picture.png", "picture.jpg", "0.png"):
        cv2.imwrite(name, noise)
    for name in ("clip.avi", "clip.mp4"):
        write_clip(Path(name), frames=4)
    tensors = {"backbone.conv_stem.weight": torch.ones(4, 3, 3, 3), "class_net.predict.conv_pw.bias": torch.ones(9)}
    torch.save(tensors, "weights.pth")
    save_file(tensors, "weights.safetensors")
    with h5py.File("weights.h5", "w") as file:
        file["class_net/class_net/class-predict/bias:0"] = np.ones(9, np.float32)
    shutil.copy(GOLDEN / "tf_checkpoint.tar.gz", ".")
    # a flatbuffer with edgedet's ZIP of metadata behind it
    from edgedet import demo

    with open(demo.INT8, "rb") as file:
        Path("model.tflite").write_bytes(file.read(20_000) + demo.INT8.read_bytes()[-20_000:])
    Path("project.yml").write_text("obj_list: [a, b]\nanchors_ratios: '[(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)]'\n")
    Path("classes.names").write_text("person\ncar\n")
    Path("labels.json").write_text(
        json.dumps(
            {
                "images": [{"id": 0, "file_name": "0.png", "width": SIZE_WH[0], "height": SIZE_WH[1]}],
                "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [32, 16, 64, 128]}],
                "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
            }
        )
    )
    for name in ("bench.json", "bench2.json", "plan.json"):
        shutil.copy(GOLDEN / "bench_x86_onnxruntime.json", name)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return the bytes cut off, with flipped bits, overwritten, grown, repeated, or something else altogether."""
    data = bytearray(content)
    at = rng.randrange(len(data))
    kind = rng.randrange(8)
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        for _ in range(rng.choice((1, 8, 64))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[at : at + 64] = rng.randbytes(64)
    elif kind == 3:
        data[at : at + 64] = bytes(64)
    elif kind == 4:
        data[at:at] = rng.randbytes(rng.choice((1, 100, 10_000)))
    elif kind == 5:
        data[at:at] = data[:at]
    elif kind == 6:
        digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
        for i in rng.sample(digits, min(len(digits), 4)):  # numbers of text files become huge or no numbers
            data[i : i + 1] = rng.choice((b"9" * 40, b"-1", b"1e999", b"null", b"NaN"))
    else:
        return rng.choice((b"", b"<html></html>", b"[" * 100_000, b"\xff\xfe" * 50, b"{}", b"null", bytes(5000)))
    return bytes(data)


def cases():
    return [
        pytest.param(name, seed, marks=[] if seed < FAST else [pytest.mark.slow])
        for name in TARGETS
        for seed in range(ALL)
    ]


@pytest.mark.parametrize(("name", "seed"), cases())
def test_a_damaged_file_ends_in_one_line(name, seed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_inputs()
    Path("out").mkdir()
    good = Path(name).read_bytes()
    Path(name).write_bytes(mutated(good, random.Random(zlib.crc32(name.encode()) + seed)))
    before = {path.name for path in tmp_path.iterdir()}
    code = cli.main(TARGETS[name])
    printed = capsys.readouterr()
    assert code in DOCUMENTED
    assert "Traceback" not in printed.err
    lines = printed.err.strip().splitlines()
    if code in (2, 3):
        assert lines[-1].startswith("edgedet: ")
        assert len(lines[-1]) < 1000
    assert {path.name for path in tmp_path.iterdir()} == before
    left = {path.name for path in Path("out").iterdir()}
    assert not [file for file in left if file.startswith(".") or "tmp" in file]
    if code in (2, 3):
        assert left <= {"a.jsonl"}  # what was seen of a clip that breaks off stays
