"""Quantise the demo's weights on frames of its clip and put the INT8 TFLite file into the package.

make demo-int8
"""

import shutil
import sys
import tempfile
from pathlib import Path

from edgedet import demo
from edgedet.cli import main
from edgedet.engines.tflite_file import read_trailer
from edgedet.files import atomic_path
from edgedet.judge.gate.verdict import PASSED

REFUSED = 1  # exit code: some of the INT8 files; this one may be there all the same

with tempfile.TemporaryDirectory() as folder:
    command = ["export", "--weights", "demo", "--int8", "--out", folder]
    code = main([*command, *sys.argv[1:]])
    written = Path(folder) / demo.INT8.name
    if code not in (0, REFUSED) or not written.exists():
        sys.exit(f"no {written.name} was written: {demo.INT8} stays as it is.")
    meta, _ = read_trailer(written)
    verdict = meta.report["gate"]
    if verdict["verdict"] != PASSED:
        sys.exit(f"{written.name} is {verdict['verdict']}: {demo.INT8} stays as it is.")
    with atomic_path(demo.INT8) as temporary:
        shutil.copyfile(written, temporary)
print(f"wrote {demo.INT8}: {demo.INT8.stat().st_size} bytes, {verdict['figure']} {verdict['value']:.4f}")
