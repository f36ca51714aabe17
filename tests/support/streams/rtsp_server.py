"""An RTSP camera on loopback, by GStreamer's server: H.264, noise or the time of capture painted into each picture.

    rtsp_server.py PORT WIDTH HEIGHT [FPS [USER:PASSWORD]]

Run it by an interpreter that has ``gi`` (Debian: python3-gi gir1.2-gst-rtsp-server-1.0): it prints its port (PORT 0
takes a free one). /live shows noise at 25 frames a second; a line "WIDTH HEIGHT" on its standard input changes the size
of that running stream. /clock shows the time of capture, ``time.monotonic()`` in milliseconds, as ``cameras.number_of``
reads it, at FPS frames a second. With USER:PASSWORD, both ask for them. It ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time

ENCODE = (
    "video/x-raw,format=I420 ! x264enc tune=zerolatency threads=1 speed-preset=ultrafast key-int-max=25 ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1"
)
NOISE = f"( videotestsrc is-live=true pattern=snow ! capsfilter name=size caps={{}} ! videoconvert ! {ENCODE} )"
CLOCK = f"( appsrc name=clock is-live=true format=time do-timestamp=true caps={{}} ! videoconvert ! {ENCODE} )"
CAPS = "video/x-raw,width={},height={},framerate={}/1"
BITS, BLOCK = 24, 16  # 16 pixels: a macroblock of H.264, so that a bit survives at any rate


def clock_picture(width: int, height: int) -> bytes:
    """Return a grey picture (GRAY8) with the time in its first rows."""
    milliseconds = int(time.monotonic() * 1000) % (1 << BITS)
    row = b"".join((b"\xff" if milliseconds >> bit & 1 else b"\0") * BLOCK for bit in range(BITS))
    row += b"\x5a" * (width - len(row))
    return row * BLOCK + b"\x5a" * (width * (height - BLOCK))


def feed(source: object, width: int, height: int, fps: float) -> None:
    """Push pictures at their times until the stream has ended."""
    from gi.repository import Gst

    due = time.monotonic()
    while source.emit("push-buffer", Gst.Buffer.new_wrapped(clock_picture(width, height))) == Gst.FlowReturn.OK:
        due = max(due + 1 / fps, time.monotonic() - 0.5)
        time.sleep(max(0.0, due - time.monotonic()))


def factory_of(launch: str) -> object:
    """Return a stream that all clients share."""
    from gi.repository import GstRtspServer

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(True)
    return factory


def ask_for(login: str, server: object, factories: list[object]) -> None:
    """Let only this user and password in."""
    from gi.repository import GstRtspServer

    user, password = login.split(":")
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    for factory in factories:
        factory.add_role_from_structure(permissions())


def permissions() -> object:
    """Return what a user may do."""
    from gi.repository import Gst

    structure = Gst.Structure.new_empty("user")
    structure.set_value("media.factory.access", True)
    structure.set_value("media.factory.construct", True)
    return structure


def main() -> None:
    """Serve until standard input ends."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    port, width, height = sys.argv[1:4]
    fps = float(sys.argv[4]) if len(sys.argv) > 4 else 25.0
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    noise = factory_of(NOISE.format(CAPS.format(width, height, 25)))
    running = []
    noise.connect("media-configure", lambda _, media: running.append(media.get_element().get_by_name("size")))
    clock = factory_of(CLOCK.format(CAPS.format(width, height, round(fps)) + ",format=GRAY8"))

    def on_clock(_: object, media: object) -> None:
        source = media.get_element().get_by_name("clock")
        threading.Thread(target=feed, args=(source, int(width), int(height), fps), daemon=True).start()

    clock.connect("media-configure", on_clock)
    if len(sys.argv) > 5:
        ask_for(sys.argv[5], server, [noise, clock])
    server.get_mount_points().add_factory("/live", noise)
    server.get_mount_points().add_factory("/clock", clock)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()

    def follow_input() -> None:
        for line in sys.stdin:
            for element in running:
                element.set_property("caps", Gst.Caps.from_string(CAPS.format(*line.split(), 25)))
        loop.quit()

    threading.Thread(target=follow_input, daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
