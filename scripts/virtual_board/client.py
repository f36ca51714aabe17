"""client.py SOCKET USER LIMIT COMMAND [FILE]: run a command on the board, FILE its input; its output and exit code."""

import base64
import json
import os
import socket
import sys
import time

path, user, limit, command, *given = sys.argv[1:]
deadline = time.monotonic() + float(limit) + 30
try:
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)
    ask = {"id": f"{os.getpid()}-{time.time()}", "user": user, "limit": float(limit), "command": command}
    if given:
        with open(given[0], "rb") as file:
            ask["stdin"] = base64.b64encode(file.read()).decode()
    link.settimeout(float(limit) + 30)
    link.sendall(json.dumps(ask).encode() + b"\n")
    rest = b""
    while True:
        link.settimeout(max(deadline - time.monotonic(), 0.001))
        data = link.recv(1 << 16)
        if not data:
            sys.exit("the board is gone")
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            answer = json.loads(line) if line.startswith(b"{") else {}
            if answer.get("id") != ask["id"]:
                continue
            sys.stdout.buffer.write(base64.b64decode(answer.get("out", "")))
            sys.stdout.buffer.flush()
            if "code" in answer:
                sys.exit(answer["code"])
except (OSError, ValueError) as error:
    print(f"board: {error}", file=sys.stderr)
    sys.exit(125)
