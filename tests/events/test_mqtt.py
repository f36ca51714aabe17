"""MQTT against a real broker: what is told, what is kept, and what a broken connection costs."""

import json
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, closing

import pytest
from brokers import Subscriber, broker_in, free_port, needs_mosquitto
from waiting import wait_until
from walkers import CLASS_NAMES, crossing, result, walker

from edgedet.errors import InputError
from edgedet.events.clips import ClipRules
from edgedet.events.mqtt import mqtt_publisher
from edgedet.events.mqtt_options import MqttOptions, broker_of, credentials
from edgedet.events.sink import EventOptions, events_sink
from edgedet.events.watch import Rulebook, Rules
from edgedet.events.zones import Zone

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")

ALL = Zone("yard", ((0, 0), (1, 0), (1, 1), (0, 1)))


class Run:
    """A run whose frames the test makes."""

    def __init__(self, folder, port, **options):
        self.lines = []
        self._held = ExitStack()
        mqtt = MqttOptions("127.0.0.1", port, node="board", **options)
        self._publisher = self._held.enter_context(mqtt_publisher(mqtt, folder, self.lines.append))
        rules = EventOptions(folder, Rulebook(others=Rules(places=(ALL,))), clips=ClipRules(fps=0))
        self._write = self._held.enter_context(events_sink(rules, CLASS_NAMES, live=False, publisher=self._publisher))
        self._time_s, self._id = 0.0, 0

    def walk(self, frames=4):
        """Let one object come, stay for some frames, and go."""
        self._id += 1
        for _ in range(frames):
            self._write(result([walker(self._id, 0.5)], self._time_s))
            self._time_s += 0.1
        self._write(result([], self._time_s))

    def write(self, results):
        for one in results:
            self._write(one)

    def close(self):
        self._held.close()


@pytest.fixture
def start_broker(tmp_path):
    with ExitStack() as held:
        yield lambda *lines: held.enter_context(broker_in(tmp_path / "broker", *lines))


@pytest.fixture
def subscribe(start_broker):
    with ExitStack() as held:

        def make(*arguments, **options):
            return held.enter_context(closing(Subscriber(*arguments, **options)))

        yield make


@pytest.fixture
def run_of(subscribe):
    """Make runs, which end before their broker does."""
    with ExitStack() as held:

        def make(*arguments, **options):
            run = Run(*arguments, **options)
            held.callback(run.close)
            return run

        yield make


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


@needs_mosquitto
def test_user_and_password_are_given_and_wrong_ones_reported(tmp_path, start_broker, subscribe, run_of):
    passwords = tmp_path / "passwords"
    passwords.write_text("camera:secret-of-the-yard\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    broker = start_broker("allow_anonymous false", f"password_file {passwords}")
    wrong = run_of(tmp_path / "a", broker.port, user="camera", password="guess-of-mine")
    wait_until(lambda: wrong.lines)
    assert "uthori" in wrong.lines[0]  # "Not authorized" of the broker
    assert "guess-of-mine" not in wrong.lines[0]
    noted = subscribe(broker.port, user="camera", password="secret-of-the-yard")
    run = run_of(tmp_path / "b", broker.port, user="camera", password="secret-of-the-yard")
    run.walk()
    wait_until(lambda: [one["type"] for one in noted.events()][-1:] == ["end"])


def make_certificates(folder):
    """Return files of an authority, and of a broker's certificate and key that it signed."""
    folder.mkdir()

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-subj",
        "/CN=test",
        "-days",
        "2",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign",
    )
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=broker"
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        "x509",
        "-req",
        "-in",
        "broker.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "broker.crt",
        "-days",
        "2",
        "-extfile",
        "names",
    )
    return folder / "ca.crt", folder / "broker.crt", folder / "broker.key"


@needs_mosquitto
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")  # paho leaves it to the garbage collector
def test_tls_is_checked_against_the_authority(tmp_path, start_broker, subscribe, run_of):
    ca, certificate, key = make_certificates(tmp_path / "pki")
    tls_port = free_port()
    lines = [
        "allow_anonymous true",
        f"listener {tls_port} 127.0.0.1",
        f"certfile {certificate}",
        f"keyfile {key}",
    ]
    broker = start_broker(*lines)
    stranger = run_of(tmp_path / "a", tls_port, tls=True)
    wait_until(lambda: stranger.lines)
    assert "no connection" in stranger.lines[0]
    noted = subscribe(broker.port)
    run = run_of(tmp_path / "b", tls_port, tls=True, ca=ca)
    run.walk()
    wait_until(lambda: [one["type"] for one in noted.events()][-1:] == ["end"])


def test_broker_that_never_answers_is_no_error(tmp_path, run_of):
    run = run_of(tmp_path, free_port())
    run.walk()
    wait_until(lambda: run.lines)
    assert "no connection to 127.0.0.1" in run.lines[0]
    run.close()


@pytest.mark.parametrize(
    ("text", "broker"),
    [
        ("10.0.0.5", ("10.0.0.5", 1883, False)),
        ("mqtt://hub:1884", ("hub", 1884, False)),
        ("mqtts://hub", ("hub", 8883, True)),
        ("[::1]:1883", ("::1", 1883, False)),
    ],
)
def test_broker_is_an_address(text, broker):
    assert broker_of(text) == broker


@pytest.mark.parametrize(
    "text",
    ["http://hub", "mqtt://", "mqtt://hub:port", "mqtt://hub/topic", "mqtt://me:secret@hub", "mqtt://me:secret/1@hub"],
)
def test_other_addresses_are_refused(text):
    with pytest.raises(InputError) as refused:
        broker_of(text)
    assert "secret" not in str(refused.value)


def test_credentials_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "mqtt"
    file.write_text("me\nmy secret\n")
    assert credentials(file) == ("me", "my secret")
    file.write_text("me\n")
    with pytest.raises(InputError, match="the user in its first line"):
        credentials(file)
    monkeypatch.setenv("EDGEDET_MQTT_USER", "you")
    monkeypatch.setenv("EDGEDET_MQTT_PASSWORD", "other")
    assert credentials(None) == ("you", "other")
    assert "other" not in repr(MqttOptions("hub", 1883, user="you", password="other"))
