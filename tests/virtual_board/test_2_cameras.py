"""A real V4L2 device, the kernel's vivid driver: listed, opened in each format and size, disturbed, taken away."""

from __future__ import annotations

import json

import pytest
from virtual_board import LONG, BoardRun, VirtualBoard

pytestmark = pytest.mark.board

SIZES = ("320x180", "640x360", "640x480", "1280x720", "1920x1080", "3840x2160")  # of vivid as a webcam
OPENED = SIZES if LONG else ("320x180", "640x480", "1920x1080")
FORMATS = ("YUYV", "NV12", "GREY")  # of --pixel-format, those that vivid has
FOREIGN_FORMATS = ("RG16", "HSV3", "Y16 ", "AR24") if LONG else ("RG16",)  # in which another program may leave a camera
UNPLUGGED = 100 if LONG else 3
DRIVER = "/sys/bus/platform/drivers/vivid"

OPEN_EACH = """
import itertools, json, sys
from edgedet.stream.cameras.capture import CaptureOptions
from edgedet.stream.cameras.devices import open_v4l2
from edgedet.errors import EdgeDetError
for name, size in itertools.product(sys.argv[1].split(), sys.argv[2].split()):
    w, h = map(int, size.split("x"))
    try:
        camera = open_v4l2("/dev/video0", CaptureOptions(size_wh=(w, h), pixel_format=name))
    except EdgeDetError as error:
        print(json.dumps([name, size, str(error)]))
        continue
    ok, bgr = camera.read()
    print(json.dumps([name, size, [ok, list(bgr.shape), str(bgr.dtype), float(bgr.std()) > 10]]))
    camera.release()
"""


def opened_in(board: VirtualBoard, names: tuple[str, ...], sizes: tuple[str, ...]) -> list[list[object]]:
    command = f"~/edgedet/bin/python -c '{OPEN_EACH}' '{' '.join(names)}' '{' '.join(sizes)}'"
    return [json.loads(line) for line in board.run(command, user="pi").splitlines() if line.startswith("[")]


def test_the_camera_is_listed_with_what_it_can(board: VirtualBoard):
    listed = json.loads(board.run("~/edgedet/bin/edgedet cameras --json - 2> /dev/null", user="pi"))["v4l2"]
    assert [(device["number"], device["driver"], device["problem"]) for device in listed] == [(0, "vivid", "")]
    modes = {(mode["pixel_format"], mode["size"]) for mode in listed[0]["modes"]}
    assert {(name, size) for name in FORMATS for size in SIZES} <= modes
    assert all(name.isascii() and name.isprintable() for name, _ in modes)
    assert {"Y16", "Y16-BE"} <= {name for name, _ in modes}


def test_every_format_and_size_gives_pictures(board: VirtualBoard, figure):
    results = opened_in(board, FORMATS, OPENED)
    assert len(results) == len(FORMATS) * len(OPENED)
    for name, size, got in results:
        width, height = map(int, str(size).split("x"))
        assert got == [True, [height, width, 3], "uint8", True], f"{name} {size}: {got}"
    figure("formats and sizes opened", len(results))


def test_what_the_camera_has_not_is_refused_in_one_line(board: VirtualBoard):
    results = opened_in(board, ("MJPG", "H264"), ("640x360",)) + opened_in(board, ("YUYV",), ("800x600",))
    assert len(results) == 3
    for _, _, got in results:
        assert "`edgedet cameras` lists what it can" in str(got)
    assert "640x480, not 800x600" in str(results[2][2])


def test_a_camera_that_another_program_left_in_a_strange_format_runs(board: VirtualBoard):
    for name in FOREIGN_FORMATS:
        board.run(f"v4l2-ctl -d0 --set-fmt-video=width=640,height=360,pixelformat='{name}'")
        (result,) = opened_in(board, ("auto",), ("640x360",))
        assert result[2] == [True, [360, 640, 3], "uint8", True], f"after {name}: {result}"


def test_controls_formats_and_a_second_program_do_not_disturb_a_run(board: VirtualBoard):
    with BoardRun(board, "disturbed", "--camera 0 --size 640x360 --camera-fps 10") as run:
        for control in ("brightness=200", "horizontal_flip=1", "test_pattern=5", "gain_automatic=0", "brightness=128"):
            board.run(f"v4l2-ctl -d0 --set-ctrl {control}")
            run.wait_for_frames()
        changed = board.ask("v4l2-ctl -d0 --set-fmt-video=width=1280,height=720")
        assert "busy" in changed.text.lower()  # the kernel protects what streams
        second = board.ask("~/edgedet/bin/edgedet run /mnt/payload/model.fake --camera 0 --limit 1", user="pi")
        assert second.code == 4
        assert "Traceback" not in second.text
        assert "camera 0 cannot be opened" in second.text.splitlines()[-1]
        run.wait_for_frames()
        summary = run.stop()
    board.run("v4l2-ctl -d0 --set-ctrl horizontal_flip=0,test_pattern=0,gain_automatic=1")
    assert summary["cameras"][0]["gaps"] == 0


def test_errors_of_the_driver_are_gaps_at_most(board: VirtualBoard, figure):
    with BoardRun(board, "errors", "--camera 0 --size 640x360 --camera-fps 10") as run:
        seconds = {}
        for fault in ("inject_v4l2_buf_flag_error", "inject_vidioc_qbuf_error", "inject_fatal_streaming_error"):
            board.run(f"v4l2-ctl -d0 --set-ctrl {fault}=1")
            seconds[fault] = round(run.wait_for_frames(20, limit_s=90), 1)
        summary = run.stop()
    figure("driver's errors, s until 20 frames more", seconds)
    assert summary["failures"] == []


def test_an_unplugged_camera_is_found_again_whatever_its_number(board: VirtualBoard, figure):
    with BoardRun(board, "unplugged", "--camera 0 --size 320x180 --camera-fps 25") as run:
        # Every other time it is back before edgedet has seen that it was gone.
        loop = f"""
        numbers=; worst=0
        lines() {{ tr '\\r' '\\n' < {run.stem}.log | grep -c "$1"; }}
        for i in $(seq {UNPLUGGED}); do
            echo vivid.0 > {DRIVER}/unbind
            [ $((i % 2)) = 0 ] || until [ "$(lines 'lost: ')" -ge $i ]; do sleep 0.1; done
            echo vivid.0 > {DRIVER}/bind
            began=$(date +%s%N)
            until [ "$(lines 'back after')" -ge $i ]; do
                sleep 0.1
                [ $(($(date +%s%N) - began)) -lt 300000000000 ] || {{ echo "not back: $i"; exit 1; }}
            done
            took=$((($(date +%s%N) - began) / 1000000))
            [ $took -le $worst ] || worst=$took
            numbers="$numbers $(basename "$(readlink /dev/v4l/by-path/*index0)")"
        done
        echo "worst $worst ms; $(echo $numbers | tr ' ' '\\n' | sort | uniq -c | xargs)"
        """
        answer = board.ask(loop, limit_s=60 + 30 * UNPLUGGED)
        assert answer.code == 0, answer.text + run.log()[-2000:]
        figure(
            f"unplugged {UNPLUGGED} times: longest time until a frame came again, and the numbers", answer.text.strip()
        )
        summary = run.stop()
    (camera,) = summary["cameras"]
    assert camera["gaps"] == UNPLUGGED
    assert camera["captured"] == camera["processed"] + camera["dropped"] + camera["skipped"] + camera["stale"]
    board.run(f"echo vivid.0 > {DRIVER}/unbind; echo vivid.0 > {DRIVER}/bind; udevadm settle; test -e /dev/video0")


def test_gstreamer_reads_the_camera(board: VirtualBoard):
    pipeline = (
        "v4l2src device=/dev/video0 ! video/x-raw,format=YUY2,width=640,height=360 ! videoconvert ! "
        "video/x-raw,format=BGR ! appsink"
    )
    with BoardRun(board, "gstreamer", f"--camera '{pipeline}'") as run:
        run.wait_for_frames()
        assert run.stop()["cameras"][0]["size_wh"] == [640, 360]
