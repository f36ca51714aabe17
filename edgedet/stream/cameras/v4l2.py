"""What Linux says of its cameras: names, formats, sizes, rates, by V4L2's ioctls. Opens no stream. Stdlib only.

The numbers and layouts are those of the kernel's linux/videodev2.h, which are fixed for all architectures.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

SYSFS = Path("/sys/class/video4linux")
_QUERYCAP, _ENUM_FMT = 0x80685600, 0xC0405602
_ENUM_FRAMESIZES, _ENUM_FRAMEINTERVALS = 0xC02C564A, 0xC034564B
_CAPABILITY = struct.Struct("=16s32s32sIII12x")  # driver, card, bus, version, capabilities, device_caps
_FMTDESC = struct.Struct("=III32sI16x")  # index, type, flags, description, pixelformat
_FRMSIZE = struct.Struct("=III6I8x")  # index, pixel_format, type; width, height, or min max step of both
_FRMIVAL = struct.Struct("=IIIII6I8x")  # index, pixel_format, width, height, type; numerator, denominator, ...
_CAP_VIDEO_CAPTURE, _CAP_DEVICE_CAPS = 0x1, 0x80000000
_BUF_TYPE_VIDEO_CAPTURE = 1
_DISCRETE = 1
_BIG_ENDIAN = 0x80000000  # v4l2_fourcc_be
_MOST = 256  # of anything that is enumerated; a driver that does not end is broken

Ioctl = Callable[[int, bytearray], None]  # fills the buffer; OSError where there is no more


@dataclass(frozen=True)
class Mode:
    """One picture format and size, and the frames a second that the camera offers in it, fastest first."""

    pixel_format: str
    size: str
    fps: Tuple[float, ...]


@dataclass(frozen=True)
class Device:
    """A camera: its number is that of /dev/videoN; ``problem`` says why nothing more is known, "" where it is."""

    number: int
    name: str
    driver: str
    modes: Tuple[Mode, ...]
    problem: str = ""


def list_devices(sysfs: Path = SYSFS, dev: Path = Path("/dev")) -> List[Device]:
    """Return the devices that deliver pictures, by number; a camera's other devices (metadata, output) are left out."""
    devices: List[Device] = []
    nodes = sysfs.glob("video*") if sysfs.is_dir() else ()
    for node in sorted((node for node in nodes if node.name[5:].isdigit()), key=lambda node: int(node.name[5:])):
        number = int(node.name[5:])
        name = (node / "name").read_text(errors="replace").strip()
        try:
            descriptor = os.open(dev / node.name, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            devices.append(Device(number, name, "", (), error.strerror or str(error)))
            continue
        try:
            devices += describe(number, _ioctl_of(descriptor))
        except OSError as error:
            devices.append(Device(number, name, "", (), error.strerror or str(error)))
        finally:
            os.close(descriptor)
    return devices


def _ioctl_of(descriptor: int) -> Ioctl:
    from fcntl import ioctl  # on no Windows

    return lambda request, buffer: ioctl(descriptor, request, buffer) and None


def describe(number: int, ioctl: Ioctl) -> List[Device]:
    """Return one device's description, in a list that is empty where the device delivers no pictures."""
    buffer = bytearray(_CAPABILITY.size)
    ioctl(_QUERYCAP, buffer)
    driver, card, _, _, all_caps, own_caps = _CAPABILITY.unpack(buffer)
    if not (own_caps if all_caps & _CAP_DEVICE_CAPS else all_caps) & _CAP_VIDEO_CAPTURE:
        return []
    modes: List[Mode] = []
    for _, _, _, _, code in _each(ioctl, _ENUM_FMT, _FMTDESC, _BUF_TYPE_VIDEO_CAPTURE):
        pixel_format = name_format(code)
        for size in _each(ioctl, _ENUM_FRAMESIZES, _FRMSIZE, code):
            if size[2] != _DISCRETE:  # a range: one entry
                modes.append(Mode(pixel_format, f"{size[3]}x{size[6]} to {size[4]}x{size[7]}", ()))
                break
            width, height = size[3:5]
            rates = _each(ioctl, _ENUM_FRAMEINTERVALS, _FRMIVAL, code, width, height)
            fps = sorted({round(rate[6] / rate[5], 2) for rate in rates if rate[4] == _DISCRETE and rate[5]})
            modes.append(Mode(pixel_format, f"{width}x{height}", tuple(reversed(fps))))
    return [Device(number, _text(card), _text(driver), tuple(modes))]


def name_format(code: int) -> str:
    """Return a pixel format's four letters; the kernel's own bit for big-endian formats is "-BE", as of v4l2-ctl."""
    letters = (code & ~_BIG_ENDIAN).to_bytes(4, "little").decode("latin-1").strip()
    return f"{letters}-BE" if code & _BIG_ENDIAN else letters


def _each(ioctl: Ioctl, request: int, layout: struct.Struct, *given: int) -> Iterator[Tuple[int, ...]]:
    """Yield what the driver enumerates: index 0, 1, ... until it says that there is no more."""
    for index in range(_MOST):
        buffer = bytearray(layout.size)
        struct.pack_into(f"={1 + len(given)}I", buffer, 0, index, *given)
        try:
            ioctl(request, buffer)
        except OSError:
            return
        yield layout.unpack(buffer)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace")
