"""Commands and files on another machine by the system's OpenSSH client.

Keys, users, ports and jump hosts come from ~/.ssh/config, as for every other use of `ssh`; nothing is asked for on the
terminal, so a machine that wants a password is an error.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgedet.benchmarks.hosts.host_list import Host
from edgedet.errors import EdgeDetError, MissingDependency

CONNECT_S = 10
ALIVE_EVERY_S, ALIVE_MISSED = 5, 3  # so a link that is cut is known after 15 s
INTERRUPTED = "interrupted"  # the failure of a machine whose connections were ended here
_CHUNK = 1 << 18
_SSH_FAILED = 255  # ssh(1): its own exit code, when the connection and not the command failed


class HostError(EdgeDetError):
    """What failed on one machine, in one line without the machine's name."""


class LinkError(HostError):
    """The connection failed, or was ended here; nothing more can be asked of the machine."""


class Connection:
    """Runs programs on one machine. Each is an `ssh` process of its own.

    ended: whether ``end_all`` was called.
    """

    def __init__(self, host: Host) -> None:
        """Remember the machine; nothing is connected yet. Raises MissingDependency where there is no `ssh`."""
        if shutil.which("ssh") is None:
            raise MissingDependency(
                "--host needs OpenSSH's client `ssh`: install it, as by apt install openssh-client."
            )
        self._host = host
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.ended = False

    def start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start a program there; its input, output and messages are pipes. The caller passes it to ``finish``."""
        options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}"]
        options += ["-o", f"ServerAliveInterval={ALIVE_EVERY_S}", "-o", f"ServerAliveCountMax={ALIVE_MISSED}"]
        if self._host.ssh_config is not None:
            options += ["-F", str(self._host.ssh_config)]
        # The far side's shell splits the words again.
        command = ["ssh", *options, "--", self._host.address, " ".join(map(quote, arguments))]
        pipe = subprocess.PIPE
        with self._lock:
            if self.ended:
                raise LinkError(INTERRUPTED)
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
            self._running.add(process)
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a program and return its exit code."""
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code

    def run(self, arguments: list[str], feed: Callable[[IO[bytes]], None] = lambda stdin: None) -> str:
        """Run a program there to its end and return what it printed.

        feed: writes the program's input.
        Raises HostError with the last line of its messages where it fails or the connection does.
        """
        process = self.start(arguments)
        stdin, stdout, stderr = pipes_of(process)
        messages: list[str] = []
        output: list[bytes] = []
        readers = [
            threading.Thread(target=lambda: output.append(stdout.read()), daemon=True),
            threading.Thread(target=read_lines, args=(stderr, messages.append), daemon=True),
        ]
        for reader in readers:
            reader.start()
        with suppress(OSError):  # where it ends before it has read everything, its messages say why
            feed(stdin)
            stdin.close()
        code = self.finish(process)
        for reader in readers:
            reader.join()
        for pipe in (stdin, stdout, stderr):
            with suppress(OSError):  # of what was not sent
                pipe.close()
        if code:
            raise failure_of(code, messages, self.ended)
        return b"".join(output).decode(errors="replace")

    def send_file(self, path: Path, arguments: list[str], sent: Callable[[int], None]) -> None:
        """Run a program there with a file as its input; ``sent`` is told the number of bytes of each part."""

        def feed(stdin: IO[bytes]) -> None:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    stdin.write(chunk)
                    sent(len(chunk))

        self.run(arguments, feed)

    def end_all(self) -> None:
        """End the connections of all programs that still run, and let no other begin; from any thread."""
        with self._lock:
            self.ended = True
            for process in self._running:
                process.terminate()


def pipes_of(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Return a program's input, output and messages."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr


def quote(argument: str) -> str:
    """Quote a word for the far side's shell; a leading ~/ stays, so that it is that user's home."""
    if argument.startswith("~/"):
        return "~/" + shlex.quote(argument[2:])
    return shlex.quote(argument)


def read_lines(stream: IO[bytes], take: Callable[[str], None]) -> None:
    """Give ``take`` each line that is not empty, until the stream ends."""
    for line in stream:
        if text := line.decode(errors="replace").strip():
            take(text)


def failure_of(code: int, messages: list[str], ended: bool) -> HostError:
    """Return why a program on another machine failed, from its exit code and its messages."""
    if ended:
        return LinkError(INTERRUPTED)
    said = messages[-1].removeprefix("edgedet: ").rstrip(".") if messages else ""
    if code == _SSH_FAILED:
        return LinkError(f"the connection failed: {said or 'ssh gives no reason'}")
    return HostError(said or f"the program ended with exit code {code}")
