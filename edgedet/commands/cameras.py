"""``edgedet cameras``: the cameras of this machine, by the names under which ``edgedet run`` opens them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Dict, List

from ..errors import require
from ..schemas import write_figures
from ..stream.cameras.devices import read_board_model
from ..stream.cameras.v4l2 import Device, list_devices
from .options import add_json, text_stream

DESCRIPTION = "List this machine's cameras, with their formats, sizes and rates."
EXAMPLE = """  edgedet cameras --json cameras.json"""
OUTPUTS = ("json",)

_CSI_DRIVERS = ("tegra-video", "unicam", "rp1-cfe", "rpivid", "bcm2835-isp", "pispbe")  # raw sensors and helpers of CSI


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet cameras``."""
    add_json(parser, "the list")


def run(args: argparse.Namespace) -> int:
    """Print the list; 0 also where it is empty."""
    text = text_stream(args.json)
    devices = [device for device in list_devices() if not device.driver.startswith(_CSI_DRIVERS)]
    csi = _csi_cameras()
    for device in devices:
        _print_device(device, text)
    for camera in csi:
        print(f"csi:{camera['number']}  {camera['name']}", file=text)
    if not devices and not csi:
        print("no camera on this machine: is one plugged in (lsusb), and may this user see it?", file=text)
    print("Network cameras are not listed: name them by URL (docs/cameras.md).", file=text)
    write_figures("cameras", args.json, {"v4l2": [asdict(device) for device in devices], "csi": csi})
    return 0


def _print_device(device: Device, text: Any) -> None:
    problem = f": {device.problem}" if device.problem else f" ({device.driver})"
    print(f"{device.number}  {device.name}{problem}", file=text)
    formats: Dict[str, List[str]] = {}
    for mode in device.modes:
        rates = f" at {', '.join(f'{fps:g}' for fps in mode.fps)}" if mode.fps else ""
        formats.setdefault(mode.pixel_format, []).append(f"{mode.size}{rates}")
    alike: Dict[str, List[str]] = {}  # a driver may have forty formats, all with the same sizes and rates
    for pixel_format, sizes in formats.items():
        alike.setdefault("; ".join(sizes), []).append(pixel_format)
    for described, names in alike.items():
        print(f"   {', '.join(names)}: {described}", file=text)


def _csi_cameras() -> List[Dict[str, Any]]:
    """Return number and name of each camera on the board's CSI connectors; what lists them depends on the board."""
    board = read_board_model()
    if "Raspberry" in board and find_spec("picamera2") is not None:
        cameras = require("picamera2", "edgedet cameras").Picamera2.global_camera_info()
        return [{"number": camera["Num"], "name": camera["Model"]} for camera in cameras]
    if "NVIDIA" in board or "Jetson" in board:
        sensors = [device for device in list_devices() if device.driver == "tegra-video"]
        return [{"number": number, "name": device.name} for number, device in enumerate(sensors)]
    return []
