"""A backend for Triton that runs model.onnx by onnxruntime's Python package, loaded by Triton's own Python backend.

It stands in for the compiled onnxruntime backend, which no Python package holds: the server, its configuration parser,
its dynamic batcher and its warm-up are the real ones. scripts/check_triton.py puts this file where the server looks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path += os.environ["PYTHONPATH"].split(os.pathsep)  # which the Python in this process does not read

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of a model; the name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the file of this version."""
        config = json.loads(args["model_config"])
        folder = Path(pb_utils.get_model_dir())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._input = config["input"][0]["name"]
        self._outputs = [item["name"] for item in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the pictures of all requests at once, and give each request its own rows."""
        pictures = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        outputs = self._session.run(self._outputs, {self._input: np.concatenate(pictures)})
        responses, first = [], 0
        for own in pictures:
            rows = slice(first, first + len(own))
            tensors = [pb_utils.Tensor(name, values[rows]) for name, values in zip(self._outputs, outputs, strict=True)]
            responses.append(pb_utils.InferenceResponse(tensors))
            first += len(own)
        return responses
