"""The class slots of official models: COCO's 90, slot = label id - 1, with gaps where COCO 2017 has no such category.

Names and ids are those of COCO's annotation files (cocodataset.org, instances_val2017.json, "categories"). Stdlib only.
"""

from __future__ import annotations

_GAP = "unused_"

_CATEGORIES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""
_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _slots() -> tuple[str, ...]:
    categories = [name.strip() for name in _CATEGORIES.split(",")]
    names = iter(categories)
    count = len(categories) + len(_UNUSED_IDS)
    return tuple(f"{_GAP}{label}" if label in _UNUSED_IDS else next(names) for label in range(1, count + 1))


# The name of each class slot; "unused_12" (by the label id) where COCO has no category.
COCO_SLOTS = _slots()


def is_gap(name: str) -> bool:
    """Whether a class name is that of a slot without a category, which no data can have."""
    return name.startswith(_GAP) and name in COCO_SLOTS
