"""monitor.py SOCKET COMMAND...: give commands to qemu's monitor, each when the one before has ended.

"until STATE" waits until qemu is in just that state, as "paused" and not "paused (inmigrate)".
"""

import socket
import sys
import time

PROMPT = b"(qemu) "


def answer_of(link):
    """Return what comes until the next prompt."""
    answer = b""
    while not answer.endswith(PROMPT):
        data = link.recv(1 << 16)
        if not data:
            return None
        answer += data
    return answer.partition(b"\n")[2]


def give(link, command):
    """Give one command and return its answer, None where qemu ends by it."""
    link.sendall(command.encode() + b"\n")
    return answer_of(link)


with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1])
    answer_of(link)
    for command in sys.argv[2:]:
        name, _, state = command.partition(" ")
        if name == "until":
            while (answer := give(link, "info status")) and f"VM status: {state}\r".encode() not in answer:
                time.sleep(0.1)
            continue
        answer = give(link, command)
        if answer is None and command != "quit":
            sys.exit(f"qemu has ended at {command!r}")
        if answer and b"rror" in answer:
            sys.exit(answer.decode(errors="replace"))
