"""`edgedet cameras` on a machine with cameras: a fake /sys, and a fake driver that answers by the kernel's layouts."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from edgedet import cli
from edgedet.commands import cameras as cameras_command
from edgedet.stream.cameras.v4l2 import Device, Mode, describe, list_devices, name_format

# Numbers of the calls and offsets of the fields, as a C compiler gives them for linux/videodev2.h.
QUERYCAP, ENUM_FMT, FRAMESIZES, FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
SIZES = {QUERYCAP: 104, ENUM_FMT: 64, FRAMESIZES: 44, FRAMEINTERVALS: 52}
MJPG, YUYV = (int.from_bytes(name, "little") for name in (b"MJPG", b"YUYV"))
FORMATS = [MJPG, YUYV]
FRAMES = {MJPG: [(1280, 720), (640, 480)], YUYV: [(640, 480)]}
INTERVALS = {(MJPG, 1280, 720): [(1, 30), (1, 15)], (MJPG, 640, 480): [(1, 30)], (YUYV, 640, 480): [(100, 2997)]}


def fake_driver(device_caps=0x1, stepwise=False):
    def ioctl(request, buffer):
        assert len(buffer) == SIZES[request]
        if request == QUERYCAP:
            buffer[:8], buffer[16:27] = b"uvcvideo", b"HD Webcam X"
            struct.pack_into("=II", buffer, 84, 0x80000001 | 0x4, device_caps)
            return
        index, first = struct.unpack_from("=II", buffer)
        if request == ENUM_FMT:
            assert first == 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
            if index >= len(FORMATS):
                raise OSError(22, "Invalid argument")
            struct.pack_into("=I", buffer, 44, FORMATS[index])
        elif request == FRAMESIZES and stepwise:
            struct.pack_into("=I6I", buffer, 8, 3, 32, 1920, 2, 16, 1080, 4)
        elif request == FRAMESIZES:
            if index >= len(FRAMES[first]):
                raise OSError(22, "Invalid argument")
            struct.pack_into("=III", buffer, 8, 1, *FRAMES[first][index])
        else:
            width, height = struct.unpack_from("=II", buffer, 8)
            rates = INTERVALS[first, width, height]
            if index >= len(rates):
                raise OSError(22, "Invalid argument")
            struct.pack_into("=III", buffer, 16, 1, *rates[index])

    return ioctl


WEBCAM = Device(
    0,
    "HD Webcam X",
    "uvcvideo",
    (Mode("MJPG", "1280x720", (30.0, 15.0)), Mode("MJPG", "640x480", (30.0,)), Mode("YUYV", "640x480", (29.97,))),
)


def test_a_webcams_formats_sizes_and_rates():
    assert describe(0, fake_driver()) == [WEBCAM]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (MJPG, "MJPG"),
        (int.from_bytes(b"Y16 ", "little"), "Y16"),
        (int.from_bytes(b"Y16\xa0", "little"), "Y16-BE"),
        (int.from_bytes(b"AR1\xb5", "little"), "AR15-BE"),
    ],
)
def test_big_endian_formats_are_named_as_v4l2_ctl_names_them(code, name):
    assert name_format(code) == name


def test_formats_with_the_same_sizes_share_a_line(monkeypatch, capsys):
    modes = [Mode(name, "640x480", (30.0,)) for name in ("YUYV", "UYVY", "Y16-BE")] + [Mode("MJPG", "640x480", (60.0,))]
    monkeypatch.setattr(cameras_command, "list_devices", lambda: [Device(0, "vivid", "vivid", tuple(modes))])
    monkeypatch.setattr(cameras_command, "_csi_cameras", lambda: [])
    assert cli.main(["cameras"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["   YUYV, UYVY, Y16-BE: 640x480 at 30", "   MJPG: 640x480 at 60"]


def test_a_device_for_metadata_is_left_out():
    assert describe(1, fake_driver(device_caps=0x00800000)) == []


def test_a_range_of_sizes_is_one_entry():
    (device,) = describe(0, fake_driver(stepwise=True))
    assert device.modes == (Mode("MJPG", "32x16 to 1920x1080", ()), Mode("YUYV", "32x16 to 1920x1080", ()))


def test_a_device_that_may_not_be_opened_is_named(tmp_path):
    for number in (10, 2):
        (tmp_path / f"sys/video{number}").mkdir(parents=True)
        (tmp_path / f"sys/video{number}/name").write_text(f"Camera {number}\n")
    found = list_devices(tmp_path / "sys", tmp_path / "dev")
    assert found == [Device(n, f"Camera {n}", "", (), "No such file or directory") for n in (2, 10)]
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video2").touch()
    assert "ioctl" in list_devices(tmp_path / "sys", tmp_path / "dev")[0].problem


def test_a_machine_without_cameras(tmp_path):
    assert list_devices(tmp_path / "none") == []


def test_the_list(monkeypatch, capsys, tmp_path):
    broken = Device(4, "Other", "", (), "Permission denied")
    monkeypatch.setattr(cameras_command, "list_devices", lambda: [WEBCAM, broken, Device(6, "imx219", "unicam", ())])
    monkeypatch.setattr(cameras_command, "_csi_cameras", lambda: [{"number": 0, "name": "imx219"}])
    assert cli.main(["cameras", "--json", str(tmp_path / "list.json")]) == 0
    assert capsys.readouterr().out == (
        "0  HD Webcam X (uvcvideo)\n"
        "   MJPG: 1280x720 at 30, 15; 640x480 at 30\n"
        "   YUYV: 640x480 at 29.97\n"
        "4  Other: Permission denied\n"
        "csi:0  imx219\n"
        "Network cameras are not listed: name them by URL (docs/cameras.md).\n"
    )
    written = json.loads(Path(tmp_path / "list.json").read_text())
    assert [device["number"] for device in written["v4l2"]] == [0, 4]
    assert written["csi"] == [{"number": 0, "name": "imx219"}]


@pytest.mark.parametrize(("model", "sensors"), [("NVIDIA Jetson Nano", ["imx219 0"]), ("PC", [])])
def test_a_jetsons_sensors(monkeypatch, model, sensors):
    found = [Device(0, "imx219 0", "tegra-video", ()), WEBCAM]
    monkeypatch.setattr(cameras_command, "read_board_model", lambda: model)
    monkeypatch.setattr(cameras_command, "list_devices", lambda: found)
    assert [camera["name"] for camera in cameras_command._csi_cameras()] == sensors


def test_nothing_there(monkeypatch, capsys):
    monkeypatch.setattr(cameras_command, "list_devices", lambda: [])
    monkeypatch.setattr(cameras_command, "_csi_cameras", lambda: [])
    assert cli.main(["cameras"]) == 0
    assert capsys.readouterr().out.startswith("no camera on this machine: ")
