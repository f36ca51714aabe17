"""Runs commands that come by a virtio port, one at a time: JSON lines in, JSON lines out."""

import base64
import json
import os
import pwd
import select
import signal
import subprocess
import time

PORT = "/dev/virtio-ports/board"


def send(port, **fields):
    """Write one JSON line, also where the port is full for a moment."""
    data = json.dumps(fields).encode() + b"\n"
    while data:
        try:
            data = data[os.write(port, data) :]
        except BlockingIOError:
            time.sleep(0.01)


def gone(port):
    """Return whether nobody holds the other end."""
    watch = select.poll()
    watch.register(port, 0)
    return any(event & select.POLLHUP for _, event in watch.poll(0))


def run(port, ask):
    """Run a command as its user; send its output while it comes, and its exit code."""
    who = pwd.getpwnam(ask["user"])
    command = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--init-groups", "--reset-env"]
    command += ["bash", "-lc", ask["command"]]  # no session of its own: ended as a group
    given = base64.b64decode(ask.get("stdin", ""))
    with open("/run/board-agent.in", "wb") as file:
        file.write(given)
    began = time.monotonic()
    with open("/run/board-agent.in", "rb") as stdin:
        job = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=who.pw_dir,
            start_new_session=True,
        )
    out, code = job.stdout.fileno(), None
    while True:
        if select.select([out], [], [], 0.2)[0]:
            data = os.read(out, 65536)
            if data:
                send(port, id=ask["id"], out=base64.b64encode(data).decode())
                continue
            break  # all that held the output has ended
        if job.poll() is not None and not select.select([out], [], [], 0.2)[0]:
            break  # a service in the background keeps the output open
        if time.monotonic() - began > ask["limit"] or gone(port):
            code = 124
            os.killpg(job.pid, signal.SIGKILL)
            break
    send(port, id=ask["id"], code=code if code is not None else job.wait() % 256)


def main():
    """Take lines from the port for ever."""
    port = os.open(PORT, os.O_RDWR)
    rest = b""
    while True:
        data = os.read(port, 65536)
        if not data:  # nobody is there
            rest = b""
            time.sleep(0.1)
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                ask = json.loads(line)
            except ValueError:
                continue  # the end of a line that was cut off
            run(port, ask)


main()
