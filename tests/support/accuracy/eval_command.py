"""`edgedet eval` as a command, on the fake model of the working folder, and labels for its pictures."""

from __future__ import annotations

import json
from pathlib import Path

from media import SIZE_WH, SOURCE_BOXES_XYXY

from edgedet import cli

PERSON, CAR = SOURCE_BOXES_XYXY  # what the fake model finds in every picture: 0.9 sure of the person, 0.6 of the car


def coco_labels(*boxes_of_images, categories=("person", "car")):
    """Return COCO values for pictures 0.png, 1.png, ...: each a list of (category index, x1 y1 x2 y2)."""
    annotations = [
        {"image_id": image, "category_id": category + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for image, boxes in enumerate(boxes_of_images)
        for category, (x1, y1, x2, y2) in boxes
    ]
    return {
        "images": [
            {"id": image, "file_name": f"{image}.png", "width": SIZE_WH[0], "height": SIZE_WH[1]}
            for image in range(len(boxes_of_images))
        ],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations)],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(categories)],
    }


def run_eval(*options, data="labels.json", model="model.fake"):
    return cli.main(["eval", model, *(["--data", data] if data else []), "--threads", "1", *map(str, options)])


def figures(labels, *options, code=0):
    """Return the JSON of a run on these labels."""
    Path("labels.json").write_text(json.dumps(labels))
    assert run_eval("--json", "figures.json", *options) == code
    return json.loads(Path("figures.json").read_text())


def error_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]
