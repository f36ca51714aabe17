"""``--for triton``: a model repository for NVIDIA's Triton server, and a client that shows how to ask it."""

from __future__ import annotations

from edgedet.export.interop.onnx_nms import write_onnx_nms
from edgedet.export.interop.target import Agreement, Request, fill_text, labels_text, write_text

ENGINES = {"repository": 'backend: "onnxruntime"', "repository-tensorrt": 'platform: "tensorrt_plan"'}
CONFIG = """name: "{model}"
{engine}
max_batch_size: {most}
input [ {{ name: "pixels" data_type: TYPE_UINT8 dims: [ {batch_dim}{h}, {w}, 3 ] }} ]
output [
  {{ name: "num" data_type: TYPE_INT32 dims: [ {batch_dim}1 ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ {batch_dim}100, 4 ] }},
  {{ name: "scores" data_type: TYPE_FP32 dims: [ {batch_dim}100 ] }},
  {{ name: "classes" data_type: TYPE_INT32 dims: [ {batch_dim}100 ] label_filename: "labels.txt" }}
]
instance_group [ {{ count: 1 }} ]
{batching}model_warmup [
{warmups}
]
"""
WARMUP = """  {{
    name: "{name}"
    batch_size: {count}
    inputs {{ key: "pixels" value: {{ data_type: TYPE_UINT8 dims: [ {batch_dim}{h}, {w}, 3 ] zero_data: true }} }}
  }}"""
DYNAMIC = "dynamic_batching { }  # of requests that wait; none waits for another\n"
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
{batch}
TensorRT: trtexec --onnx=model.onnx --saveEngine=model.plan{shapes}; put that into repository-tensorrt as 1/model.plan.
client.py asks the server with tritonclient; class n is line n + 1 of labels.txt.
"""
SINGLE = (
    "One picture a request and a run: `edgedet export --batch N` lets Triton put the requests of N cameras together."
)
BATCHED = "1 to {most} pictures a request; Triton puts requests that wait together, up to {most} pictures a run."
SHAPES = " --minShapes=pixels:1x{h}x{w}x3 --optShapes=pixels:{most}x{h}x{w}x3 --maxShapes=pixels:{most}x{h}x{w}x3"


def write(request: Request) -> list[Agreement]:
    """Write NAME into both repositories for each ONNX file, client.py and README.md into the target's folder.

    The files take as many pictures at once as those that they are made from.
    """
    agreements: list[Agreement] = []
    h, w = request.meta.spec.input_hw
    model, most = request.files.name, request.meta.max_batch
    for end, path in request.files.onnx_files():
        name = f"{model}{end}"
        write_onnx_nms(request, f"repository/{name}/1/model.onnx", path, agreements, most)
        for repository, engine in ENGINES.items():
            write_text(request.folder / repository / name / "config.pbtxt", config_text(name, engine, (h, w), most))
            write_text(request.folder / repository / name / "labels.txt", labels_text(request.meta))
    fill_bgr = tuple(request.meta.spec.fill_rgb[::-1])
    client = CLIENT.format(model=model, h=h, w=w, fill_bgr=fill_bgr, fit=FITS[request.meta.spec.family])
    write_text(request.folder / "client.py", client)
    values = {"model": model, "h": h, "w": w, "fit": fill_text(request.meta)}
    batch, shapes = (BATCHED, SHAPES) if most > 1 else (SINGLE, "")
    sizes = {"batch": batch.format(most=most), "shapes": shapes.format(h=h, w=w, most=most)}
    write_text(request.folder / "README.md", README.format(**values, **sizes))
    return agreements


def config_text(name: str, engine: str, input_hw: tuple[int, int], most: int) -> str:
    """Return the configuration of a model that takes up to ``most`` pictures; of one picture, it knows no batches."""
    h, w = input_hw
    batch_dim, counts = ("", {"one black": 1, "a batch of black": most}) if most > 1 else ("1, ", {"black": 0})
    warmups = ",\n".join(
        WARMUP.format(name=key, count=count, batch_dim=batch_dim, h=h, w=w) for key, count in counts.items()
    )
    batching, most = (DYNAMIC, most) if most > 1 else ("", 0)
    return CONFIG.format(
        model=name, engine=engine, most=most, batch_dim=batch_dim, h=h, w=w, batching=batching, warmups=warmups
    )
