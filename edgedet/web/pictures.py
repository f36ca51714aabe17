"""The newest annotated picture of each camera as JPEG: made once a frame, and only while somebody waits for it.

The thread of the outputs puts results in and goes on at once; drawing and encoding take place in a thread of their own.
Nothing is queued: a slow viewer gets the picture that is the newest when it is ready for one.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Callable, Dict, Mapping, Sequence, Tuple

import numpy as np

from ..errors import require
from ..stream.outputs.draw import draw
from ..stream.overlap import lower_priority
from ..types import FrameResult

PICTURES_PER_S = 10.0  # of one camera at most, for all viewers together; each takes 2.5 ms of a PC's core at 1280x720
LONGEST_SIDE_PX = 1280  # of a picture on the page; a larger one costs the board more than a viewer sees
PREVIEW_PX = 480  # of one among several
PREVIEWS_PER_S = 4.0
JPEG_QUALITY = 80  # of 100: half the bytes of 95, and boxes stay sharp

EncodePicture = Callable[[FrameResult, int], bytes]  # the int is the longest side in pixels


@dataclass(frozen=True)
class Picture:
    """A JPEG; ``number`` counts the results of all cameras, from 1."""

    number: int
    jpeg: bytes


def jpeg_of(result: FrameResult, class_names: Sequence[str], longest_px: int = LONGEST_SIDE_PX) -> bytes:
    """Return the frame with its boxes as JPEG, no side longer than ``longest_px``."""
    cv2 = require("cv2", "--web")
    bgr, detections = result.frame.bgr, result.detections
    shrink = longest_px / max(bgr.shape[:2])
    if shrink < 1:
        size_wh = (max(1, round(bgr.shape[1] * shrink)), max(1, round(bgr.shape[0] * shrink)))
        bgr = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)
        detections = replace(detections, boxes_xyxy=detections.boxes_xyxy * np.float32(shrink))
    _, data = cv2.imencode(".jpg", draw(bgr, detections, class_names), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(data)


class Pictures:
    """Belongs to the event loop that runs when it is made; only ``put`` is for another thread.

    encoded: pictures made so far.
    """

    def __init__(
        self, encode: EncodePicture, longest_px: int = LONGEST_SIDE_PX, pictures_per_s: float = PICTURES_PER_S
    ) -> None:
        """Start without a picture; ``encode`` is called in a thread of its own."""
        self.encoded = 0
        self._encode_result = encode
        self._longest_px = longest_px
        self._interval_s = 1.0 / pictures_per_s
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] = self._loop.create_future()
        self._newest: Dict[str, Tuple[int, FrameResult]] = {}
        self._tasks: Dict[str, asyncio.Task[Picture]] = {}
        self._began_s: Dict[str, float] = {}
        self._number = 0
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "pictures", lower_priority)

    def put(self, result: FrameResult) -> None:
        """Take a result; may be called from another thread, and returns at once."""
        self._number += 1
        self._newest[result.frame.camera] = (self._number, result)
        if self._waiting:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, self._loop.create_future()
        news.set_result(None)

    async def after(self, camera: str, number: int) -> Picture:
        """Return the camera's newest picture, once there is one with a higher number."""
        return (await self.after_each({camera: number}))[1]

    async def after_each(self, numbers: Mapping[str, int]) -> Tuple[str, Picture]:
        """Return the newest picture of one of several cameras, once one has a higher number than is given here.

        numbers: camera -> number of the picture that was taken last. The longest ago comes first.
        """
        self._waiting += 1  # before looking, so that ``put`` wakes whoever looked too early
        try:
            while not any(self._newest_number(camera) > number for camera, number in numbers.items()):
                await asyncio.shield(self._news)
        finally:
            self._waiting -= 1
        newer = [camera for camera, number in numbers.items() if self._newest_number(camera) > number]
        camera = min(newer, key=lambda name: numbers[name])
        picture = await self._picture(camera)
        while picture.number <= numbers[camera]:
            picture = await self._picture(camera)
        return camera, picture

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _newest_number(self, camera: str) -> int:
        return self._newest[camera][0] if camera in self._newest else 0

    async def _picture(self, camera: str) -> Picture:
        """Return the picture in hand, or make the newest; all viewers share one task."""
        task = self._tasks.get(camera)
        if task is None or (task.done() and _is_old(task, self._newest_number(camera))):
            task = self._tasks[camera] = self._loop.create_task(self._encode(camera))
        return await asyncio.shield(task)  # a viewer who goes away must not end it for the others

    async def _encode(self, camera: str) -> Picture:
        due_s = self._began_s.get(camera, 0.0) + self._interval_s
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        self._began_s[camera] = time.monotonic()
        number, result = self._newest[camera]
        jpeg = await self._loop.run_in_executor(self._thread, self._encode_result, result, self._longest_px)
        self.encoded += 1
        return Picture(number, jpeg)


def _is_old(task: asyncio.Task[Picture], newest: int) -> bool:
    return task.cancelled() or task.exception() is not None or task.result().number < newest
