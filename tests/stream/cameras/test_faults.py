"""One camera lives, others are dead in one way each: the live one does not notice. Real sockets on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager

import pytest
from cameras import mjpeg_camera, number_of
from faults import fault_proxy
from media import write_fake_model
from waiting import wait_until

from edgedet.stream.cameras.capture import CaptureOptions
from edgedet.stream.cameras.recovery import Recovery
from edgedet.stream.sources import SourceOptions, open_cameras

cv2 = pytest.importorskip("cv2", reason="streams are read by OpenCV")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cameras are isolated by Linux's means")

DEAD = ("hole", "freeze", "drip", "refuse")
FPS = 20.0


def port_of(camera):
    return int(camera.url.split(":")[2].split("/")[0])


@contextmanager
def live_and_dead(modes):
    """Yield (--camera texts of the live camera and the dead ones, the proxies before the dead ones)."""
    with ExitStack() as held:
        live = held.enter_context(mjpeg_camera(FPS))
        other = held.enter_context(mjpeg_camera(FPS))  # each counts its own pictures
        proxies = [held.enter_context(fault_proxy(port_of(other), mode)) for mode in modes]
        dead = [f"{proxy.mode}{n}=http://127.0.0.1:{proxy.port}/live" for n, proxy in enumerate(proxies)]
        yield [f"live={live.url}", *dead], proxies


def test_a_live_camera_loses_nothing_to_six_dead_ones():
    """Timeouts as users have them, 10 s: whoever waits for a dead camera waits that long."""
    with live_and_dead(("hole", "hole", *DEAD)) as (texts, _):
        began_s = time.monotonic()
        with closing(open_cameras(texts, lambda: time.monotonic() > began_s + 60)) as source:
            frames = iter(source)
            first = next(frames)
            waiting = [one.state for one in source.stats()[1:] if not one.name.startswith("refuse")]
            assert waiting == ["opening"] * len(waiting), "the live camera waited for the timeout of a dead one"
            times_s = [first.captured_s]
            for frame in frames:
                assert frame.camera == "live"
                times_s.append(frame.captured_s)
                if number_of(frame.bgr) > 12 * FPS:  # longer than the dead ones' timeouts
                    break
            shown = number_of(frame.bgr) - number_of(first.bgr) + 1
            assert source.stats()[0].captured >= 0.99 * shown
            assert max(later - earlier for earlier, later in zip(times_s, times_s[1:], strict=False)) < 5.0


def test_a_run_with_dead_cameras_has_its_page_at_once_and_ends_when_told(tmp_path):
    """The page is there before the camera that hangs has timed out (600 s), and SIGTERM is not kept waiting for it."""
    write_fake_model(tmp_path / "model.fake")
    with live_and_dead(("hole", "freeze")) as (texts, _), ExitStack() as held:
        options = [part for text in texts for part in ("--camera", text)]
        command = [
            sys.executable,
            "-m",
            "edgedet",
            "run",
            "model.fake",
            *options,
            "--save",
            "rec/",
            "--jsonl",
            "out.jsonl",
            "--web",
            "127.0.0.1:0",
            "--timeout",
            "600",
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        log = held.enter_context(open(tmp_path / "log", "w"))
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        held.callback(process.wait)
        held.callback(process.kill)
        wait_until(lambda: "watch it on http://127.0.0.1:" in (tmp_path / "log").read_text())
        assert "lost" not in (tmp_path / "log").read_text(), "the page waited for the timeout of a dead camera"
        lines = tmp_path / "out.jsonl"
        wait_until(lambda: lines.exists() and len(lines.read_text().splitlines()) > 2)
        assert "lost" not in (tmp_path / "log").read_text(), "the live camera waited for the timeout of a dead one"
        process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        assert process.wait() == 143
        assert time.monotonic() - began_s < 300, "it waited for a dead camera"  # 3 s where the machine is free
    assert "hole0: 0 captured" in (tmp_path / "log").read_text()


def test_a_camera_that_comes_late_joins_in():
    options = SourceOptions(CaptureOptions(timeout_s=1.0), Recovery(timeout_s=1.0, first_wait_s=0.1))
    with live_and_dead(("refuse",)) as (texts, proxies):
        lines = []
        with closing(open_cameras(texts, lambda: False, options, lines.append)) as source:
            frames = iter(source)
            next(frames)
            wait_until(lambda: lines)
            assert lines == [
                f"refuse0: lost: {texts[1].partition('=')[2]} cannot be opened: the host refuses the connection: "
                "is the port right, and does it run?; opening it again"
            ]
            proxies[0].mode = "pass"
            assert next(frame for frame in frames if frame.camera == "refuse0").gap
            assert lines[1].startswith("refuse0: back after ")
