"""Which pictures are picked to be labelled, and what becomes of the boxes: the session's files and the COCO file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedet.errors import InputError
from edgedet.judge.labels import read_dataset
from edgedet.label.pick import Candidate, pick_telling
from edgedet.label.session import Picture, Session, boxes_from_detections, load_session
from edgedet.types import Detections

NAMES = ("person", "car")


def candidate(index: int, level: float, *rows: tuple[int, float]) -> Candidate:
    """A picture of one grey; each row is (class, score)."""
    class_ids, scores = zip(*rows, strict=True) if rows else ((), ())
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (len(rows), 1))
    detections = Detections(boxes, np.array(scores, np.float32), np.array(class_ids, np.int64))
    return Candidate(index, "", np.full((32, 32), level, np.float32), detections)


def picked(candidates: list[Candidate], count: int) -> list[int]:
    return [one.index for one in pick_telling(candidates, count)]


def test_the_pictures_on_which_the_model_is_unsure_come_first():
    sure, unsure, empty = candidate(0, 0.1, (0, 0.99)), candidate(1, 0.5, (0, 0.5)), candidate(2, 0.9)
    assert picked([sure, unsure, empty], 1) == [1]
    assert picked([sure, unsure, empty], 2) == [0, 1]


def test_pictures_that_show_the_same_are_not_picked_twice():
    """Of three equal ones and a less telling other one, one and the other are taken, and no third."""
    same = [candidate(index, 0.5, (0, 0.5), (0, 0.5)) for index in range(3)]
    assert picked([*same, candidate(3, 0.8, (0, 0.9))], 4) == [0, 3]


def test_a_still_background_hides_no_person():
    """Two frames of a camera that stands still differ by a person of 4 x 4 of 1,024 pixels, a third one by noise."""
    frames = [candidate(index, 0.5, (0, 0.5)) for index in range(3)]
    frames[1].thumbnail[4:8, 4:8] = 0.1
    frames[2].thumbnail[:] += np.random.default_rng(0).normal(0, 2 / 255, (32, 32))
    assert picked(frames, 3) == [0, 1]


def test_a_class_that_was_not_shown_yet_is_preferred():
    """After persons, a car at 0.9 (0.47 bit) tells more than two persons at 0.8 (0.72 bit each, after 20 persons)."""
    crowd = candidate(0, 0.1, *[(0, 0.6)] * 20)
    persons, car = candidate(1, 0.5, (0, 0.8), (0, 0.8)), candidate(2, 0.5 + 1e-6, (1, 0.9))
    assert picked([crowd, persons, car], 2) == [0, 2]


def test_one_box_stands_at_each_place_and_weak_ones_are_suggestions():
    boxes = np.array([[10, 10, 50, 50], [11, 10, 50, 50], [80, 10, 99, 50]], np.float32)
    detections = Detections(boxes, np.array([0.7, 0.4, 0.2], np.float32), np.array([0, 1, 1], np.int64))
    first, second = boxes_from_detections(detections)
    assert (first.class_id, first.accepted) == (0, True)
    assert (second.score, second.accepted) == (0.2, False)


def session(folder: Path) -> Session:
    return Session(folder, NAMES, [Picture("a.png", 100, 60, ()), Picture("b.png", 100, 60, ())])


def row(*box: float, class_id: int = 0, accepted: bool = True) -> dict:
    return {"box": box, "class": class_id, "score": None, "accepted": accepted}


def test_the_coco_file_holds_the_pictures_that_are_done_and_is_what_eval_reads(tmp_path: Path):
    """A box beyond the picture's side is cut, one drawn from right to left is turned, a suggestion is no label."""
    one = session(tmp_path)
    boxes = [row(90, 10, 120, 30, class_id=1), row(40, 50, 20, 20), row(1, 1, 9, 9, accepted=False)]
    one.change(0, {"boxes": boxes, "done": True})
    one.change(1, {"boxes": [row(5, 5, 9, 9)], "done": False})
    assert one.count() == (1, 2)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"")
    dataset = read_dataset(tmp_path / "labels.json")
    (image,) = dataset.images
    assert image.path == tmp_path / "images/a.png"
    np.testing.assert_allclose(image.boxes_xyxy, [[90, 10, 100, 30], [20, 20, 40, 50]])
    assert [dataset.class_names[class_id] for class_id in image.class_ids] == ["car", "person"]


def test_a_later_session_goes_on_where_the_last_one_ended(tmp_path: Path):
    assert load_session(tmp_path) is None
    one = session(tmp_path)
    one.change(1, {"boxes": [row(5, 5, 9, 9, accepted=False)], "done": True})
    again = load_session(tmp_path)
    assert again is not None
    assert again.pictures == one.pictures
    assert again.class_names == NAMES


@pytest.mark.parametrize(
    "values",
    [
        {},
        [],
        None,
        {"boxes": [], "done": 1},
        {"boxes": [{"box": [1, 2, 3], "class": 0, "accepted": True}], "done": True},
        {"boxes": [row(1, 2, 3, float("nan"))], "done": True},
        {"boxes": [row(1, 2, 30, 40, class_id=2)], "done": True},
        {"boxes": [row(1, 2, 30, 40)] * 1001, "done": True},
    ],
)
def test_what_is_no_list_of_boxes_changes_nothing(tmp_path: Path, values: object):
    one = session(tmp_path)
    with pytest.raises(InputError, match="no boxes"):
        one.change(0, values)
    assert one.pictures[0].boxes == ()
    assert not one.labels.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"class_names": ["a"], "pictures": [{"file": "a"}]}'])
def test_a_damaged_session_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "work.json").write_text(text)
    with pytest.raises(InputError, match=r"work\.json is damaged"):
        load_session(tmp_path)


def test_slots_without_a_category_are_no_class_to_choose(tmp_path: Path):
    one = Session(tmp_path, ("person", "unused_12"), [Picture("a.png", 9, 9, ())])
    assert one.coco()["categories"] == [{"id": 1, "name": "person"}]
