"""A real V4L2 device, the kernel's vivid driver: listed, opened in each format and size, disturbed, taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from virtual_board import LONG, BoardRun, VirtualBoard

from edgedet import Detector, demo

pytestmark = pytest.mark.board

SIZES = ("320x180", "640x360", "640x480", "1280x720", "1920x1080", "3840x2160")  # of vivid as a webcam
OPENED = SIZES if LONG else ("320x180", "640x480", "1920x1080")
FORMATS = ("YUYV", "NV12", "GREY")  # of --pixel-format, those that vivid has
FOREIGN_FORMATS = ("RG16", "HSV3", "Y16 ", "AR24") if LONG else ("RG16",)  # in which another program may leave a camera
UNPLUGGED = 100 if LONG else 3
# The driver as a cable: what is written to its HDMI output, /dev/video1, comes from its HDMI input, /dev/video0. OpenCV
# opens a camera in 640x480 first. With its crop, compose and scale (ccs) vivid keeps that part.
CABLE = "n_devs=1 node_types=0x101 num_inputs=1 input_types=3 num_outputs=1 output_types=1"
CABLE += " ccs_cap_mode=0 ccs_out_mode=0"
CABLE_WH = (1280, 720)
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


@pytest.mark.ci
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


@pytest.mark.ci
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


def test_a_picture_that_comes_through_the_camera_gives_the_detections_of_a_pc(board: VirtualBoard, tmp_path, figure):
    import cv2

    clip = cv2.VideoCapture(str(demo.CLIP))
    yuyv = cv2.cvtColor(cv2.resize(clip.read()[1], CABLE_WH), cv2.COLOR_BGR2YUV_YUYV)
    clip.release()
    (model,) = Path(demo.__file__).parent.glob("*_int8.tflite")
    with Detector(model, threads=1) as detector:
        expected = detector(cv2.cvtColor(yuyv, cv2.COLOR_YUV2BGR_YUYV))
    (tmp_path / "picture.yuyv").write_bytes(yuyv.tobytes())
    board.put(tmp_path / "picture.yuyv", "/home/pi/picture.yuyv", user="pi")
    board.run(f"modprobe -r vivid; modprobe vivid {CABLE}; udevadm settle")
    try:
        board.run("v4l2-ctl -d0 --set-ctrl loop_video=1,osd_text_mode=2")
        board.run(f"v4l2-ctl -d1 --set-fmt-video-out=width={CABLE_WH[0]},height={CABLE_WH[1]},pixelformat=YUYV")
        stream = "v4l2-ctl -d1 --stream-out-mmap --stream-loop --stream-from ~/picture.yuyv"
        board.run(f"nohup {stream} > /dev/null 2>&1 & echo $! > ~/stream.pid; sleep 2", user="pi")
        options = "--camera 0 --size 1280x720 --pixel-format YUYV --limit 1 --no-track --jsonl picture.jsonl"
        model_there = "~/edgedet/lib/python3*/site-packages/edgedet/demo/*_int8.tflite"
        # With AVX2 numpy 1.24's maximum ends by a segmentation fault on the emulated CPU (docs/virtual-board.md).
        command = f"NPY_DISABLE_CPU_FEATURES=AVX2 ~/edgedet/bin/edgedet run {model_there} {options}"
        board.run(f"rm -f picture.jsonl; {command}", user="pi", limit_s=300)
    finally:
        board.ask("kill $(cat ~pi/stream.pid); sleep 1; modprobe -r vivid; modprobe vivid; udevadm settle")
    (line,) = board.json_lines("/home/pi/picture.jsonl")
    figure("detections of a picture that comes through the camera, as on the PC", len(line["detections"]))
    assert len(line["detections"]) == len(expected.scores) > 0
    for got, box, score in zip(line["detections"], expected.boxes_xyxy, expected.scores, strict=True):
        assert got["box_xyxy"] == pytest.approx(box.tolist(), abs=0.0051)  # lines have two decimals
        assert got["score"] == pytest.approx(float(score), abs=5.1e-5)
