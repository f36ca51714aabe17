"""A simulation of Triton's HTTP server: KServe's v2 protocol with Triton's binary tensors, on this machine only.

Written from the public protocol (KServe "Open Inference Protocol" and Triton's extension_binary_data.md). It shows that
a client's messages are well formed and that it reads answers; it says nothing on what Triton itself does with a model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np

TYPES = {"UINT8": np.uint8, "INT32": np.int32, "FP32": np.float32}
NAMES = {np.dtype(value): key for key, value in TYPES.items()}
HEADER = "Inference-Header-Content-Length"
Model = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@contextmanager
def kserve_server(name: str, model: Model) -> Iterator[str]:
    """Serve one model; yield HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != f"/v2/models/{name}/infer":
                self._answer(404, json.dumps({"error": f"no model at {self.path}"}).encode(), None)
                return
            size = int(self.headers[HEADER])
            request, at, inputs = json.loads(body[:size]), size, {}
            for tensor in request["inputs"]:
                length = tensor["parameters"]["binary_data_size"]
                flat = np.frombuffer(body[at : at + length], TYPES[tensor["datatype"]])
                inputs[tensor["name"]], at = flat.reshape(tensor["shape"]), at + length
            assert at == len(body)
            assert request["parameters"]["binary_data_output"]
            outputs = {key: np.ascontiguousarray(value) for key, value in model(inputs).items()}
            described = [
                {
                    "name": key,
                    "datatype": NAMES[value.dtype],
                    "shape": list(value.shape),
                    "parameters": {"binary_data_size": value.nbytes},
                }
                for key, value in outputs.items()
            ]
            header = json.dumps({"model_name": name, "model_version": "1", "outputs": described}).encode()
            self._answer(200, header + b"".join(value.tobytes() for value in outputs.values()), len(header))

        def _answer(self, status: int, body: bytes, header: int | None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if header is not None:
                self.send_header(HEADER, str(header))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
