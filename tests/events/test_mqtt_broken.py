"""MQTT over a broken connection: what is lost, what comes twice, and in which order."""

import signal
import subprocess
import sys
import threading

import pytest
from brokers import free_port, needs_mosquitto
from waiting import wait_until

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")


@needs_mosquitto
def test_what_happens_while_the_broker_is_dead_comes_later_in_order_and_once(tmp_path, start_broker, subscribe, run_of):
    broker = start_broker()
    noted = subscribe(broker.port)
    run = run_of(tmp_path / "events", broker.port)
    run.walk()
    wait_until(lambda: len([one for one in noted.events() if one["type"] == "end"]) == 1)
    broker.stop(signal.SIGKILL)
    for _ in range(30):
        run.walk()
    broker.start()
    wait_until(lambda: len([one for one in noted.events() if one["type"] == "end"]) == 31)
    for kind in ("new", "end"):
        ids = [one["after"]["id"] for one in noted.events() if one["type"] == kind]
        assert len(set(ids)) == len(ids) == 31
        assert ids == sorted(ids)
    assert any("events wait" in line for line in run.lines)
    assert run.lines[-1] == "mqtt: 127.0.0.1 answers again"


@needs_mosquitto
@pytest.mark.slow
def test_hundred_restarts_of_the_broker_lose_nothing(tmp_path, start_broker, subscribe, run_of):
    """A confirmation that is lost with the connection lets a message come twice, which its message_id tells."""
    broker = start_broker()
    noted = subscribe(broker.port)
    run = run_of(tmp_path / "events", broker.port)
    ending = threading.Event()
    walked = 0
    faults = threading.Thread(target=lambda: restart(broker, 100, ending))
    faults.start()
    while not ending.wait(0.1):
        run.walk(frames=2)
        walked += 1
    faults.join()
    wait_until(lambda: len(noted.ended) == walked, f"{walked} events, {len(noted.ended)} ended")
    print(f"{walked} events, {len(noted.events())} messages, {noted.doubles} came twice, 0 events lost")
    begun = [one["after"]["id"] for one in noted.events() if one["type"] == "new"]
    assert len(begun) == walked
    assert walked > 100


def restart(broker, times, ending):
    for _ in range(times):
        broker.stop(signal.SIGTERM)
        broker.start()
        ending.wait(1.5)
    ending.set()


RUN_ON = """
import sys, time
from pathlib import Path
from walkers import CLASS_NAMES, result, walker
from edgedet.events.clips import ClipRules
from edgedet.events.mqtt import mqtt_publisher
from edgedet.events.mqtt_options import MqttOptions
from edgedet.events.sink import EventOptions, events_sink

folder = Path(sys.argv[1])
with mqtt_publisher(MqttOptions("127.0.0.1", int(sys.argv[2]), node="board"), folder, print) as publisher:
    with events_sink(EventOptions(folder, clips=ClipRules(fps=0)), CLASS_NAMES, False, publisher) as write:
        for number in range(1000000):
            write(result([walker(1, 0.2), walker(2 + number // 3, 0.5)], number / 10))
            if number == 30:
                print("going", flush=True)
            time.sleep(0.005)
"""


@needs_mosquitto
def test_killed_run_is_offline_by_will_and_the_next_one_tells_what_was_left(tmp_path, start_broker, subscribe, run_of):
    broker = start_broker()
    noted = subscribe(broker.port)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_ON, str(tmp_path / "events"), str(broker.port)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    with process:
        try:
            assert process.stdout.readline() == "going\n"
            wait_until(lambda: noted.newest("edgedet/available") == b"online" and len(noted.events()) > 5)
        finally:
            process.send_signal(signal.SIGKILL)
    wait_until(lambda: noted.newest("edgedet/available") == b"offline")
    run = run_of(tmp_path / "events", broker.port)

    def all_ended():
        told = noted.events()
        begun = {one["after"]["id"] for one in told if one["type"] == "new"}
        return begun == {one["after"]["id"] for one in told if one["type"] == "end"}

    wait_until(all_ended)
    wait_until(lambda: noted.newest("edgedet/door/person") == b"0")  # the broker remembered 2
    ends = [one["after"] for one in noted.events() if one["type"] == "end"]
    assert len({one["id"] for one in ends}) == len(ends)
    assert "restart" in {one["ended_by"] for one in ends}
    run.close()


def test_broker_that_never_answers_is_no_error(tmp_path, run_of):
    run = run_of(tmp_path, free_port())
    run.walk()
    wait_until(lambda: run.lines)
    assert "no connection to 127.0.0.1" in run.lines[0]
    run.close()
