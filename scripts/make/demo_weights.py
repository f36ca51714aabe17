"""Re-save a trained checkpoint as the demo's half-precision safetensors.

python scripts/make/demo_weights.py ../shared/weights/tf_efficientdet_d0_street.pth
"""

import sys
from pathlib import Path

import torch

from edgedet import demo
from edgedet.export.checkpoints.checkpoint import load_checkpoint, save_checkpoint

save_checkpoint(load_checkpoint(Path(sys.argv[1])), demo.WEIGHTS, torch.float16)
print(f"wrote {demo.WEIGHTS}: {demo.WEIGHTS.stat().st_size} bytes")
