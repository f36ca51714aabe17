"""Ask a run on this machine whether frames flow, as a container's health check does: exit code 0 for yes, 1 for no.

    python3 -m edgedet.web.probe [PORT]

The token comes from EDGEDET_TOKEN, as for ``edgedet run``.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import List

from .defaults import DEFAULT_PLACE, TOKEN_VARIABLE

TIMEOUT_S = 4.0


def main(argv: List[str]) -> int:
    """Print the answer."""
    port = int(argv[0]) if argv else int(DEFAULT_PLACE.split(":")[1])
    token = os.environ.get(TOKEN_VARIABLE, "")
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        print(answer.read().decode("utf-8", "replace").strip())
        return int(answer.status != 200)
    except (OSError, HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
