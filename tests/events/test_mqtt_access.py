"""The way to a broker: its address, users and passwords, and TLS."""

import subprocess

import pytest
from brokers import free_port, needs_mosquitto
from waiting import wait_until

from edgedet.errors import InputError
from edgedet.events.mqtt_options import MqttOptions, broker_of, credentials

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")


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
