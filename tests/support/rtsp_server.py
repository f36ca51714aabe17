"""An RTSP camera on loopback, by GStreamer's server: noise in H.264 at 25 frames a second.

    rtsp_server.py PORT WIDTH HEIGHT

Run it by an interpreter that has ``gi`` (Debian: python3-gi gir1.2-gst-rtsp-server-1.0): it prints its port (PORT 0
takes a free one). A line "WIDTH HEIGHT" on its standard input changes the size of the running stream; it ends when its
standard input does.
"""

from __future__ import annotations

import sys
import threading

PIPELINE = (
    "( videotestsrc is-live=true pattern=snow ! capsfilter name=size caps={} ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )"
)

CAPS = "video/x-raw,width={},height={},framerate=25/1"


def main() -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(CAPS.format(*sys.argv[2:4])))
    factory.set_shared(True)
    running = []
    factory.connect("media-configure", lambda _, media: running.append(media.get_element().get_by_name("size")))
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()

    def follow_input() -> None:
        for line in sys.stdin:
            for element in running:
                element.set_property("caps", Gst.Caps.from_string(CAPS.format(*line.split())))
        loop.quit()

    threading.Thread(target=follow_input, daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
