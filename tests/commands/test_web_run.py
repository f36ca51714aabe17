"""`edgedet run --web` from its command line: options, what is missing, a whole run with a page."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

import pytest
from cameras import mjpeg_camera
from media import write_clip, write_fake_model
from waiting import wait_until
from web_page import TOKEN, ask

from edgedet import cli
from edgedet.web.defaults import TOKEN_VARIABLE

pytest.importorskip("cv2", reason="edgedet run reads and draws by OpenCV")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    write_clip(Path("clip.avi"), frames=5, fps=25.0)
    write_fake_model(Path("model.fake"))
    return tmp_path


def test_options_of_the_page_that_do_not_fit_are_refused_in_one_line(folder, capsys):
    for options, line in (
        (
            ["--token", "0123456789abcdef"],
            "--token, --viewer-token and --allow-host go with --web: add it, or leave them out.",
        ),
        (["--web", "--viewer-token", "0123456789abcdef"], "--viewer-token needs --token beside it"),
        (["--web", "0.0.0.0:8080"], "--web on 0.0.0.0 is open to the network and needs --token TOKEN"),
        (["--web", "model.onnx"], "--web wants HOST:PORT, as 127.0.0.1:8080 or [::1]:8080; got model.onnx."),
        (["--web", "--unhealthy-after", "0"], "--unhealthy-after wants a number above 0; got 0.0."),
    ):
        assert cli.main(["run", "model.fake", "--source", "clip.avi", *options]) == 2
        assert capsys.readouterr().err.startswith(f"edgedet: {line}")


@pytest.mark.parametrize("package", ["tornado", "prometheus_client"])
def test_what_is_missing_is_told_before_anything_is_opened(folder, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["run", "model.fake", "--source", "clip.avi", "--web", "127.0.0.1:0"]) == 2
    wanted = f"edgedet: --web needs {package}, which is not installed: pip install 'edgedet[web]'\n"
    assert capsys.readouterr().err == wanted


def test_a_run_serves_a_page_changes_its_threshold_and_tells_no_password(folder, capsys, monkeypatch):
    """The fake model's boxes have scores 0.9 and 0.6; at 0.7 one is left, in the lines that are saved as well."""
    pytest.importorskip("tornado", reason="the live page is served by tornado")
    pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with mjpeg_camera(5) as camera:  # slow, so that the page is asked long before the run ends
        address = camera.url.replace("http://", "http://admin:s3cret@") + "?pwd=s3cret"
        options = ["--camera", address, "--web", "127.0.0.1:0", "--jsonl", "out.jsonl", "--limit", "90"]
        codes: list[int] = []
        run = threading.Thread(
            target=lambda: codes.append(cli.main(["run", "model.fake", "--threads", "1", *options, "--json", "f.json"]))
        )
        run.start()
        told = ""

        def port() -> int:
            nonlocal told
            told += capsys.readouterr().err
            found = re.search(r"watch it on http://127\.0\.0\.1:(\d+)/", told)
            return int(found[1]) if found else 0

        wait_until(lambda: port() > 0)
        bearer = f"Authorization: Bearer {TOKEN}"
        paths = ("/", "/metrics", "/model.json", "/healthz", "/snapshot.jpg")
        answers = [ask(port(), path, bearer) for path in paths]
        assert [status for status, _, _ in answers] == [200] * len(paths)
        assert ask(port(), "/score", bearer, method="POST", body="score=0.7")[0] == 200
        assert ask(port(), "/score", bearer, method="POST", body="score=1")[0] == 400
        camera.fps = 100.0
        run.join()
    assert codes == [0]
    counts = [len(json.loads(line)["detections"]) for line in Path("out.jsonl").read_text().splitlines()]
    assert counts == [2] * counts.count(2) + [1] * counts.count(1)
    assert counts.count(1) > 5
    assert json.loads(Path("f.json").read_text())["score"] == 0.7
    said = told + "".join(capsys.readouterr()) + "".join(map(str, answers)) + Path("f.json").read_text()
    assert "s3cret" not in said
    assert TOKEN not in said


def test_a_file_ends_and_the_page_with_it(folder):
    pytest.importorskip("tornado", reason="the live page is served by tornado")
    pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")
    assert cli.main(["run", "model.fake", "--threads", "1", "--source", "clip.avi", "--web", "127.0.0.1:0"]) == 0
    assert [thread.name for thread in threading.enumerate() if thread.name in ("web", "pictures_0")] == []
