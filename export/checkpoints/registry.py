"""Official COCO weights by name: where they are and how their hash begins.

All lie in release v0.1 of rwightman/efficientdet-pytorch (Apache-2.0), converted there from google/automl's averaged
(EMA) weights or trained there. A file's name ends in the first eight digits of its SHA-256, as torch.hub wants it;
names as in effdet/config/model_config.py.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from edgedet.errors import InputError

RELEASE = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1"

_FILES = (
    "tf_efficientdet_d0_34-f153e0cf.pth",
    "tf_efficientdet_d1_40-a30f94af.pth",
    "tf_efficientdet_d2_43-8107aa99.pth",
    "tf_efficientdet_d3_47-0b525f35.pth",
    "tf_efficientdet_d4_49-f56376d9.pth",
    "tf_efficientdet_d5_51-c79f9be6.pth",
    "tf_efficientdet_d6_52-4eda3773.pth",
    "tf_efficientdet_d7_53-6d1d7a95.pth",
    "tf_efficientdet_d7x-f390b87c.pth",
    "tf_efficientdet_lite0-dfacfc78.pth",
    "tf_efficientdet_lite1-6dc7ab30.pth",
    "tf_efficientdet_lite2-86c5d55b.pth",
    "tf_efficientdet_lite3-506852cb.pth",
    "tf_efficientdet_lite3x-8404c57b.pth",
    "tf_efficientdet_lite4-391ddabc.pth",
    "tf_efficientdet_d0_ap-d0cdbd0a.pth",
    "tf_efficientdet_d1_ap-7721d075.pth",
    "tf_efficientdet_d2_ap-a2995c19.pth",
    "tf_efficientdet_d3_ap-e4a2feab.pth",
    "tf_efficientdet_d4_ap-f601a5fc.pth",
    "tf_efficientdet_d5_ap-3673ae5d.pth",
    "efficientdet_d0-f3276ba8.pth",
    "efficientdet_d1-bb7e98fe.pth",
)


def _model_of(file: str) -> str:
    """Return the name in the family table: without the hash, and the AP that D0-D7 have ("tf_efficientdet_d0_34")."""
    stem = file.rpartition("-")[0]
    head, _, tail = stem.rpartition("_")
    return head if tail.isdigit() else stem


# name in the family table -> file name
PRETRAINED = {_model_of(file): file for file in _FILES}


def find_url(model: str) -> str:
    """Return where a model's official weights are; raises InputError listing the names where there are none."""
    if model not in PRETRAINED:
        raise InputError(
            f"there are no official weights for {model}; there are for {', '.join(PRETRAINED)}. Or give --weights FILE."
        )
    return f"{RELEASE}/{PRETRAINED[model]}"


def hash_prefix(url: str) -> str:
    """Return the hex digits of the SHA-256 that a file name ends in ("...-f153e0cf.pth")."""
    return PurePosixPath(url).stem.rpartition("-")[2]
