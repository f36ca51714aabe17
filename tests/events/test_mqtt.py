"""MQTT against a real broker: what is told of events and states, and what Home Assistant finds."""

import json

import pytest
from brokers import Subscriber, needs_mosquitto
from waiting import wait_until
from walkers import crossing, result, walker

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")


@needs_mosquitto
def test_event_is_told_from_new_to_end(tmp_path, start_broker, subscribe, run_of):
    broker = start_broker()
    noted = subscribe(broker.port)
    run = run_of(tmp_path / "events", broker.port)
    run.write(crossing(seconds=2.0))
    wait_until(lambda: [one["type"] for one in noted.events()][-1:] == ["end"])
    events = noted.events()
    assert events[0]["type"] == "new"
    assert {one["type"] for one in events[1:-1]} <= {"update"}
    assert len({one["after"]["id"] for one in events}) == 1
    assert len({one["message_id"] for one in events}) == len(events)
    end = events[-1]["after"]
    assert (end["camera"], end["label"], end["entered_zones"]) == ("door", "person", ["yard"])
    assert end["end_time"] > end["start_time"]
    assert events[-1]["before"]["end_time"] is None


@needs_mosquitto
def test_states_are_retained_for_whoever_comes_later(tmp_path, start_broker, subscribe, run_of):
    broker = start_broker()
    run = run_of(tmp_path / "events", broker.port)
    watcher = Subscriber(broker.port)
    run.write([result([walker(1, 0.5), walker(2, 0.3), walker(3, 0.2, class_id=1)], i / 10) for i in range(3)])
    states = {
        "edgedet/available": b"online",
        "edgedet/door/person": b"2",
        "edgedet/door/car": b"1",
        "edgedet/door/zone/yard/person": b"2",
        "edgedet/door/zone/yard/car": b"1",
    }
    snapshot = "edgedet/door/person/snapshot"
    wait_until(lambda: all(watcher.newest(topic) == state for topic, state in states.items()))
    wait_until(lambda: watcher.newest(snapshot))
    watcher.close()
    late = subscribe(broker.port)
    wait_until(lambda: {*states, snapshot} <= {topic for topic, _, retained in list(late.messages) if retained})
    kept = {topic: payload for topic, payload, retained in late.messages if retained}
    assert states.items() <= kept.items()
    assert kept[snapshot][:2] == b"\xff\xd8"
    run.close()
    wait_until(lambda: late.newest("edgedet/available") == b"offline")
    wait_until(lambda: late.newest("edgedet/door/person") == b"0")


@needs_mosquitto
def test_home_assistant_finds_one_device_with_its_entities(tmp_path, start_broker, subscribe, run_of):
    broker = start_broker()
    noted = subscribe(broker.port)
    run = run_of(tmp_path / "events", broker.port)
    run.write([result([walker(1, 0.5)], i / 10) for i in range(4)])
    wait_until(lambda: b"zone" in (noted.newest("homeassistant/device/edgedet_board/config") or b""))
    config = json.loads(noted.newest("homeassistant/device/edgedet_board/config"))
    assert config["device"]["identifiers"] == ["edgedet_board"]
    assert config["origin"]["name"] == "edgedet"
    assert config["availability"][0]["topic"] == "edgedet/available"
    entities = config["components"]
    assert sorted(one["platform"] for one in entities.values()) == [
        "binary_sensor",
        "binary_sensor",
        "image",
        "sensor",
        "sensor",
    ]
    assert all(key == one["unique_id"] for key, one in entities.items())
    topics = {one.get("state_topic") for one in entities.values()}
    assert {"edgedet/door/person", "edgedet/door/zone/yard/person"} <= topics
