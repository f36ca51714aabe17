"""``--for triton``: a model repository for NVIDIA's Triton server, and a client that shows how to ask it."""

from __future__ import annotations

from edgedet.export.interop.onnx_nms import write_onnx_nms
from edgedet.export.interop.target import Agreement, Request, fill_text, labels_text, write_text

ENGINES = {"repository": 'backend: "onnxruntime"', "repository-tensorrt": 'platform: "tensorrt_plan"'}
CONFIG = """name: "{model}"
{engine}
max_batch_size: 0
input [ {{ name: "pixels" data_type: TYPE_UINT8 dims: [ 1, {h}, {w}, 3 ] }} ]
output [
  {{ name: "num" data_type: TYPE_INT32 dims: [ 1, 1 ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ 1, 100, 4 ] }},
  {{ name: "scores" data_type: TYPE_FP32 dims: [ 1, 100 ] }},
  {{ name: "classes" data_type: TYPE_INT32 dims: [ 1, 100 ] label_filename: "labels.txt" }}
]
instance_group [ {{ count: 1 }} ]
model_warmup [ {{
  name: "black"
  batch_size: 0
  inputs {{ key: "pixels" value: {{ data_type: TYPE_UINT8 dims: [ 1, {h}, {w}, 3 ] zero_data: true }} }}
}} ]
"""
CLIENT = '''"""Ask Triton what is in a picture: python client.py photo.jpg [HOST:PORT]. Needs tritonclient[http]."""

import sys

import cv2
import numpy as np
import tritonclient.http as triton

MODEL, H, W, FILL_BGR = "{model}", {h}, {w}, {fill_bgr}

bgr = cv2.imread(sys.argv[1])  # goes into the input as edgedet/preprocess.py puts it there
{fit}
pixels = np.full((1, H, W, 3), FILL_BGR, np.uint8)
while bgr.shape[0] >= 2 * h and bgr.shape[1] >= 2 * w:
    half_h, half_w = bgr.shape[0] // 2, bgr.shape[1] // 2
    bgr = cv2.resize(bgr[: 2 * half_h, : 2 * half_w], (half_w, half_h), interpolation=cv2.INTER_AREA)
pixels[0, :h, :w] = cv2.resize(bgr, (w, h), interpolation=cv2.INTER_LINEAR_EXACT)

image = triton.InferInput("pixels", list(pixels.shape), "UINT8")
image.set_data_from_numpy(pixels)
client = triton.InferenceServerClient(sys.argv[2] if len(sys.argv) > 2 else "localhost:8000")
found = client.infer(MODEL, [image])
number, boxes, scores, classes = (found.as_numpy(name) for name in ("num", "boxes", "scores", "classes"))
for row in range(int(number[0, 0])):
    print(classes[0, row], round(float(scores[0, row]), 3), np.round(boxes[0, row] * to_source, 1).tolist())
'''
# code base -> how the client fits a picture in, as edgedet.preprocess.fit
_BY_ONE_SCALE = """scale = min({real}(H) / bgr.shape[0], {real}(W) / bgr.shape[1])
h, w = (max(1, int({real}(side) * scale)) for side in bgr.shape[:2])
to_source = 1 / scale"""
FITS = {
    "effdet": _BY_ONE_SCALE.format(real="float"),
    "automl": _BY_ONE_SCALE.format(real="np.float32"),
    "zylo117": """h, w = H, max(1, int(H / bgr.shape[0] * bgr.shape[1]))
if bgr.shape[1] * H > bgr.shape[0] * W:
    h, w = max(1, int(W / bgr.shape[1] * bgr.shape[0])), W
to_source = np.array([bgr.shape[1] / w, bgr.shape[0] / h] * 2)""",
}
README = """{model} by `edgedet export --for triton`: tritonserver --model-repository=THIS/repository serves it.
Input pixels: (1, {h}, {w}, 3) uint8 BGR; the picture {fit}.
One picture a request (the graph's batch is 1): raise instance_group's count to serve several cameras at once.
TensorRT: repository-tensorrt has the configuration; put an engine of 1/model.onnx there as 1/model.plan (trtexec).
client.py asks the server with tritonclient; class n is line n + 1 of labels.txt.
"""


def write(request: Request) -> list[Agreement]:
    """Write NAME into both repositories for each ONNX file, client.py and README.md into the target's folder."""
    agreements: list[Agreement] = []
    h, w = request.meta.spec.input_hw
    model = request.files.name
    for end, path in request.files.onnx_files():
        name = f"{model}{end}"
        write_onnx_nms(request, f"repository/{name}/1/model.onnx", path, agreements)
        for repository, engine in ENGINES.items():
            config = CONFIG.format(model=name, engine=engine, h=h, w=w)
            write_text(request.folder / repository / name / "config.pbtxt", config)
            write_text(request.folder / repository / name / "labels.txt", labels_text(request.meta))
    fill_bgr = tuple(request.meta.spec.fill_rgb[::-1])
    client = CLIENT.format(model=model, h=h, w=w, fill_bgr=fill_bgr, fit=FITS[request.meta.spec.family])
    write_text(request.folder / "client.py", client)
    write_text(request.folder / "README.md", README.format(model=model, h=h, w=w, fit=fill_text(request.meta)))
    return agreements
