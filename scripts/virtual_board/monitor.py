"""monitor.py SOCKET COMMAND...: give commands to qemu's monitor, each when the one before has ended."""

import socket
import sys

PROMPT = b"(qemu) "

with socket.socket(socket.AF_UNIX) as link:
    link.connect(sys.argv[1])
    for command in ["", *sys.argv[2:]]:
        if command:
            link.sendall(command.encode() + b"\n")
        answer = b""
        while not answer.endswith(PROMPT):
            data = link.recv(1 << 16)
            if not data:
                sys.exit(0 if command == "quit" else f"qemu has ended at {command!r}")
            answer += data
        if b"rror" in answer.partition(b"\n")[2]:
            sys.exit(answer.decode(errors="replace"))
