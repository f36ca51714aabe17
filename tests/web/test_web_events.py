"""The addresses of the page of events: who may see what, pages of a list, counts of a day, files and parts of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from happened import make_events
from web_page import TOKEN, ask, page

from edgedet.events.store import read_events
from edgedet.web.answers.events import EVENT_ROUTES

pytest.importorskip("cv2", reason="events have pictures by OpenCV")
pytest.importorskip("tornado", reason="the page is served by tornado")

NOON_S = 1_796_040_000.0
VIEWER = "viewer-0123456789ab"


def asked(port: int, path: str, *headers: str) -> dict:
    status, _, body = ask(port, path, *headers)
    assert status == 200, body
    return json.loads(body)


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three events of the door, ten minutes apart, and one of the street."""
    folder = tmp_path_factory.mktemp("happened")
    make_events(folder, [(NOON_S + 600 * n, "door") for n in range(3)] + [(NOON_S + 60, "street")])
    return folder


def test_events_come_page_by_page_and_filtered(happened: Path):
    with page(events=happened) as one:
        first = asked(one.port, "/events.json?limit=3")
        assert [event["camera"] for event in first["events"]] == ["door", "door", "street"]
        assert "path" not in first["events"][0]
        rest = asked(one.port, f"/events.json?limit=3&older_than={first['next']}")
        assert [event["start_s"] for event in rest["events"]] == [NOON_S]
        assert rest["next"] is None
        for query, count in (
            ("camera=street", 1),
            ("class=person", 4),
            ("class=car", 0),
            ("zone=yard", 4),
            ("zone=roof", 0),
            (f"from={NOON_S + 1}&to={NOON_S + 601}", 2),
        ):
            assert len(asked(one.port, f"/events.json?{query}")["events"]) == count, query
        known = {"cameras": ["door", "street"], "labels": ["person"], "zones": ["yard"]}
        assert asked(one.port, "/events-known.json") == known
        timeline = asked(one.port, f"/events-timeline.json?from={NOON_S}&to={NOON_S + 86400}")
        assert timeline == {"step_s": 300, "cameras": {"door": [[0, 1], [2, 1], [4, 1]], "street": [[0, 1]]}}


def test_what_cannot_be_asked_is_told(happened: Path):
    with page(events=happened) as one:
        assert ask(one.port, "/events.json?from=noon")[::2] == (400, "from wants a number\n")
        assert ask(one.port, "/events.json?from=nan")[0] == 400
        assert ask(one.port, "/events-timeline.json?from=1&to=9e9")[0] == 400
        assert asked(one.port, "/events.json?older_than=nothing") == {"events": [], "next": None}
    with page() as one:
        assert asked(one.port, "/viewer.json") == {"may_change": True, "events": False, "zones": False}
        status, _, text = ask(one.port, "/events.json")
        assert (status, text) == (404, "this run keeps no events: start it with --events DIR\n")


def test_pictures_and_clips_are_sent_whole_in_part_and_for_keeping(happened: Path):
    event = read_events(happened)[0]
    clip = (happened / event["clips"][0]).read_bytes()
    with page(events=happened) as one:
        status, head, body = ask(one.port, f"/event-picture?id={event['id']}")
        assert (status, body[:2], "Content-Type: image/jpeg" in head) == (200, "\xff\xd8", True)
        address = f"/event-clip?id={event['id']}"
        status, head, body = ask(one.port, address)
        assert (status, body.encode("latin-1")) == (200, clip)
        assert "Accept-Ranges: bytes" in head
        for wanted, part in (("10-19", clip[10:20]), ("10-", clip[10:]), ("-7", clip[-7:]), ("0-999999999", clip)):
            status, head, body = ask(one.port, address, f"Range: bytes={wanted}")
            assert (status, body.encode("latin-1")) == (206, part), wanted
        assert f"Content-Range: bytes 0-{len(clip) - 1}/{len(clip)}" in head
        assert ask(one.port, address, f"Range: bytes={len(clip)}-")[0] == 416
        assert ask(one.port, address, "Range: bytes=9-3")[0] == 416
        assert ask(one.port, address, "Range: lines=1-2")[0] == 200
        _, head, body = ask(one.port, f"{address}&download", method="HEAD")
        assert f'Content-Disposition: attachment; filename="door-{Path(event["clips"][0]).name}"' in head
        assert f"Content-Length: {len(clip)}" in head
        assert body == ""


def test_only_files_of_events_are_sent(happened: Path, tmp_path: Path):
    """Neither other files of the folder nor what a changed record names outside of it."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    with page(events=happened) as one:
        event = read_events(happened)[0]
        for query in ("", "?id=nothing", "?id=../secret", f"?id={event['id']}&part=1", f"?id={event['id']}&part=-1"):
            assert ask(one.port, f"/event-clip{query}")[0] == 404, query
    outside = tmp_path / "outside"
    make_events(outside, [(NOON_S, "door")], clips=False)
    import sqlite3

    with sqlite3.connect(outside / "events.sqlite") as db:
        for name in ("../secret.jpg", str(secret), "events.sqlite", ""):
            db.execute("update events set record=json_set(record, '$.snapshot', ?)", (name,))
            db.commit()
            with page(events=outside) as one:
                assert ask(one.port, f"/event-picture?id={read_events(outside)[0]['id']}")[0] == 404, name
    db.close()


def test_events_need_the_token_and_a_viewers_one_is_enough(happened: Path):
    with page(token=TOKEN, viewer_token=VIEWER, events=happened) as one:
        for path in ("/events-page", *EVENT_ROUTES):
            assert ask(one.port, path)[0] == 401, path
            assert ask(one.port, path, "Authorization: Bearer wrong-0123456789ab")[0] == 401, path
        for token in (TOKEN, VIEWER):
            assert asked(one.port, "/events.json", f"Authorization: Bearer {token}")["next"] is None
            assert ask(one.port, "/events-page", f"Authorization: Bearer {token}")[0] == 200
        evil = ask(one.port, "/events.json", f"Authorization: Bearer {TOKEN}", "Origin: http://evil.example")
        assert evil[0] == 403
        assert asked(one.port, "/viewer.json", f"Authorization: Bearer {VIEWER}") == {
            "may_change": False,
            "events": True,
            "zones": False,
        }
