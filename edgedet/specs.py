"""The EfficientDet family as a table: D0-D7, D7x and Lite0-4.

Sources: google/automl efficientdet/hparams_config.py; rwightman effdet/config/model_config.py; arXiv 1911.09070.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Tuple

from .errors import InputError

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
HALF_RGB = (0.5, 0.5, 0.5)  # [-1, 1] inputs: AdvProp and Lite models
ROUNDED_RATIOS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))  # (w, h), as the PyTorch ports round them
THIRD_OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # of every published model
MOST = 1 << 20  # no number of a spec is as large
MIN_SIDE = 128  # below this P7 would have no cell of its own


@dataclass(frozen=True)
class DetectorSpec:
    """One variant of EfficientDet: its structure, pre-processing and anchors.

    name:            for example "tf_efficientdet_d0".
    backbone:        "b0".."b7" or "lite0".."lite4".
    input_hw:        (height, width) in pixels.
    fusion:          "fastattn" (fast normalised), "attn" (softmax) or "sum"; automl's fpn_weight_method.
    activation:      "swish" or "relu6".
    padding:         "same" (TensorFlow's, asymmetric on stride 2) or "symmetric"; of BiFPN and heads.
    backbone_padding: the same of the backbone.
    pool_padding:    what max-pools read outside the feature: "nothing", or "zeros" (zylo117), which can be the maximum.
    pool_first:      whether a feature is made smaller before its width is changed (automl's conv_after_downsample).
    anchor_scale:    side of a level's smallest square anchor, in strides of the level.
    anchor_scales:   factors on it, one a size of anchor.
    aspect_ratios:   (w, h) factors of the anchors.
    mean_rgb/std_rgb: of pixels in [0, 1].
    fill_rgb:        bytes painted right of and below the picture where it does not fill the input.
    backbone_bn_eps: the backbone's BatchNorm epsilon; BiFPN and heads use 1e-3 in every family.
    family:          the code base that it was trained with: "effdet", "zylo117" or "automl".
    """

    name: str
    backbone: str
    input_hw: Tuple[int, int]
    num_classes: int
    bifpn_channels: int
    bifpn_repeats: int
    head_repeats: int
    fusion: str = "fastattn"
    activation: str = "swish"
    padding: str = "same"
    backbone_padding: str = "same"
    pool_padding: str = "nothing"
    pool_first: bool = False
    min_level: int = 3
    max_level: int = 7
    anchor_scale: float = 4.0
    anchor_scales: Tuple[float, ...] = THIRD_OCTAVES
    aspect_ratios: Tuple[Tuple[float, float], ...] = ROUNDED_RATIOS
    mean_rgb: Tuple[float, float, float] = IMAGENET_MEAN_RGB
    std_rgb: Tuple[float, float, float] = IMAGENET_STD_RGB
    fill_rgb: Tuple[int, int, int] = (124, 116, 104)  # round(255 x ImageNet mean), as effdet's loader
    backbone_bn_eps: float = 1e-3
    family: str = "effdet"

    @property
    def num_levels(self) -> int:
        """Number of pyramid levels that the heads read."""
        return self.max_level - self.min_level + 1

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at each position of a level: scales times aspect ratios."""
        return len(self.anchor_scales) * len(self.aspect_ratios)

    @property
    def num_anchors(self) -> int:
        """Anchors of all levels together."""
        return sum(h * w for h, w in self.level_sizes()) * self.anchors_per_cell

    def level_sizes(self) -> Tuple[Tuple[int, int], ...]:
        """Return (height, width) of each level from ``min_level`` on, by ceil division as SAME padding gives them."""
        h, w = self.input_hw
        sizes = []
        for level in range(1, self.max_level + 1):
            h, w = (h + 1) // 2, (w + 1) // 2
            if level >= self.min_level:
                sizes.append((h, w))
        return tuple(sizes)

    def to_dict(self) -> Dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Dict[str, Any]) -> DetectorSpec:
        """Rebuild a spec from ``to_dict``'s JSON; raises InputError on unknown or missing keys.

        Files of edgedet 0.1 say ``num_scales`` (parts of an octave), and the backbone pads as the rest.
        """
        frozen = {key: _tuples(value) for key, value in values.items()}
        if "num_scales" in frozen:
            count = int(frozen.pop("num_scales"))
            frozen["anchor_scales"] = tuple(2 ** (part / count) for part in range(count))
        frozen.setdefault("backbone_padding", frozen.get("padding", "same"))
        try:
            spec = DetectorSpec(**frozen)
        except TypeError as error:
            raise InputError(f"this is not a detector spec of edgedet: {error}.") from None
        for key, value in asdict(spec).items():
            may_be_0 = key in ("mean_rgb", "fill_rgb")
            if not _is_like(value, getattr(SPECS["tf_efficientdet_d0"], key), may_be_0):
                raise InputError(f"this is not a detector spec of edgedet: {key} is {str(value)[:50]}.")
        return spec


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _is_like(value: Any, example: Any, may_be_0: bool) -> bool:
    """Return whether a value of JSON is of the kind that a spec's field holds; numbers are finite, and above 0."""
    if isinstance(example, tuple):
        return (
            isinstance(value, tuple) and len(value) > 0 and all(_is_like(item, example[0], may_be_0) for item in value)
        )
    if isinstance(example, (bool, str)):
        return isinstance(value, type(example))
    numbers = (int,) if isinstance(example, int) else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool) and 0 <= value < MOST and (may_be_0 or value > 0)


def _d(name: str, backbone: str, side: int, channels: int, repeats: int, heads: int, **more: Any) -> DetectorSpec:
    return DetectorSpec(name, backbone, (side, side), 90, channels, repeats, heads, **more)


def _lite(name: str, backbone: str, side: int, channels: int, repeats: int, heads: int, scale: float) -> DetectorSpec:
    return _d(
        name,
        backbone,
        side,
        channels,
        repeats,
        heads,
        fusion="sum",
        activation="relu6",
        anchor_scale=scale,
        mean_rgb=HALF_RGB,
        std_rgb=HALF_RGB,
        fill_rgb=(128, 128, 128),
    )


_BASE = (
    _d("tf_efficientdet_d0", "b0", 512, 64, 3, 3),
    _d("tf_efficientdet_d1", "b1", 640, 88, 4, 3),
    _d("tf_efficientdet_d2", "b2", 768, 112, 5, 3),
    _d("tf_efficientdet_d3", "b3", 896, 160, 6, 4),
    _d("tf_efficientdet_d4", "b4", 1024, 224, 7, 4),
    _d("tf_efficientdet_d5", "b5", 1280, 288, 7, 4),
    _d("tf_efficientdet_d6", "b6", 1280, 384, 8, 5, fusion="sum"),
    _d("tf_efficientdet_d7", "b6", 1536, 384, 8, 5, fusion="sum", anchor_scale=5.0),
    _d("tf_efficientdet_d7x", "b7", 1536, 384, 8, 5, fusion="sum", max_level=8),
    _lite("tf_efficientdet_lite0", "lite0", 320, 64, 3, 3, 3.0),
    _lite("tf_efficientdet_lite1", "lite1", 384, 88, 4, 3, 3.0),
    _lite("tf_efficientdet_lite2", "lite2", 448, 112, 5, 3, 3.0),
    _lite("tf_efficientdet_lite3", "lite3", 512, 160, 6, 4, 4.0),
    _lite("tf_efficientdet_lite3x", "lite3", 640, 200, 6, 4, 3.0),
    _lite("tf_efficientdet_lite4", "lite4", 640, 224, 7, 4, 4.0),
)
# AdvProp training: same network, [-1, 1] inputs, black fill (effdet's config says fill_color=0).
_ADVPROP = tuple(
    replace(spec, name=spec.name + "_ap", mean_rgb=HALF_RGB, std_rgb=HALF_RGB, fill_rgb=(0, 0, 0)) for spec in _BASE[:6]
)
# effdet's own trainings: the backbone pads as PyTorch does, with timm's BatchNorm epsilon; in D0-D3 all the rest, too.
_LITE0 = _d("tf_efficientdet_lite0", "lite0", 384, 64, 3, 3, activation="relu6")  # ImageNet's figures, weighted fusion
_EFFDET = tuple(
    replace(
        spec,
        name=spec.name.replace("tf_", ""),
        padding="symmetric" if number < 4 else "same",
        backbone_padding="symmetric",
        backbone_bn_eps=1e-5,
    )
    for number, spec in enumerate((*_BASE[:6], _LITE0))
)

SPECS: Dict[str, DetectorSpec] = {spec.name: spec for spec in _BASE + _ADVPROP + _EFFDET}

# compound scaling phi -> model; 8 is D7x, as zylo117 numbers it.
PHI = {**{phi: f"tf_efficientdet_d{phi}" for phi in range(8)}, 8: "tf_efficientdet_d7x"}


def spec_for(name: str) -> DetectorSpec:
    """Return the variant of this name; raises InputError that lists all names where there is none."""
    if name not in SPECS:
        raise InputError(f"unknown model {name!r}; choose from {', '.join(SPECS)}.")
    return SPECS[name]


def resized(spec: DetectorSpec, input_hw: Tuple[int, int]) -> DetectorSpec:
    """Return the spec for another input size; raises InputError below MIN_SIDE."""
    if min(input_hw) < MIN_SIDE:
        raise InputError(f"--size needs at least {MIN_SIDE} pixels a side; got {input_hw[0]}x{input_hw[1]}.")
    return replace(spec, input_hw=input_hw)
