"""How many cameras' pictures go through the network at once?"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from camera_runs import lines_of, run
from cameras import mjpeg_camera
from media import write_fake_model
from waiting import wait_until

from edgedet import cli
from edgedet.engines.fake import FakeEngine
from edgedet.runner.run import choose_camera_batch

pytest.importorskip("cv2", reason="edgedet run reads and writes by OpenCV")


@pytest.mark.parametrize(("options", "most"), [([], 1), (["--batch", "2"], 2), (["--batch", "4"], 2)])
def test_a_model_of_several_pictures_takes_several_cameras_at_once(folder, monkeypatch, options, most):
    """On a CPU where it is asked for; with two cameras never more than two."""
    write_fake_model(Path("many.fake"), max_batch=4)
    batches = []
    infer, infer_batch = FakeEngine.infer, FakeEngine.infer_batch

    def noted(self, pixels):
        batches.append(len(pixels))
        return infer_batch(self, pixels)

    monkeypatch.setattr(FakeEngine, "infer_batch", noted)
    monkeypatch.setattr(FakeEngine, "infer", lambda self, pixels: time.sleep(0.02) or infer(self, pixels))

    def end_when_both_were_seen():
        text = Path("out.jsonl")
        wait_until(lambda: text.exists() and min(map(text.read_text().count, ('"door"', '"yard"'))) >= 5)
        wait_until(lambda: most == 1 or 2 in batches)
        os.kill(os.getpid(), signal.SIGINT)

    with mjpeg_camera() as door, mjpeg_camera() as yard:
        meanwhile = threading.Thread(target=end_when_both_were_seen)
        meanwhile.start()
        cameras = ["--camera", f"door={door.url}", "--camera", f"yard={yard.url}"]
        assert cli.main(["run", "many.fake", *cameras, "--jsonl", "out.jsonl", *options]) == 128 + signal.SIGINT
        meanwhile.join()
    assert all(len(line["detections"]) == 2 for line in lines_of("out.jsonl"))
    assert max(batches, default=1) == most


@pytest.mark.parametrize(
    ("model", "asked", "cameras", "most"),
    [
        ("a.engine", None, 3, 3),
        ("a.engine", None, 9, 4),
        ("a.engine", 1, 3, 1),
        ("a.engine", None, 1, 1),
        ("a.onnx", None, 3, 1),
        ("a.onnx", 2, 3, 2),
    ],
)
def test_a_gpu_takes_all_cameras_at_once_a_cpu_only_if_asked(model, asked, cameras, most):
    options = SimpleNamespace(batch=asked, motion=None, cameras=("c",) * cameras)
    assert choose_camera_batch(options, 4, Path(model)) == most


def test_more_at_once_than_the_model_takes_is_refused(folder, capsys):
    with mjpeg_camera() as camera:
        assert run("--camera", camera.url, "--batch", 3) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgedet: --batch")]
    assert "--batch wants 1 to 1 pictures for this model; got 3: `edgedet export --batch N` writes a model" in line
