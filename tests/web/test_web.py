"""The live page's server: its port, its files, its connections, its document and the health check that asks it."""

from __future__ import annotations

import re

import pytest
from installs import ROOT
from waiting import wait_until
from web_page import TOKEN, ask, page, read_all, result, send, stats

from edgedet.errors import InputError
from edgedet.files import sha256_of
from edgedet.web import probe
from edgedet.web.answers import routes
from edgedet.web.defaults import TOKEN_VARIABLE
from edgedet.web.guard import Guard, Place, names_of
from edgedet.web.server import web_server

pytest.importorskip("cv2", reason="the live page draws by OpenCV")
pytest.importorskip("tornado", reason="the live page is served by tornado")
pytest.importorskip("prometheus_client", reason="the live page gives metrics by prometheus_client")


def test_a_port_in_use_is_told_in_one_line():
    with page() as one, pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{one.port}: .* in use"):  # noqa: SIM117
        with web_server(Place("127.0.0.1", one.port), Guard(names_of(Place("x", 1), ()), None), one.subject, print):
            pass


def test_files_of_the_page_name_no_other_site():
    for path in routes.FILES.values():
        addresses = set(re.findall(r"https?://[\w.]+", path.read_text()))
        comment = {"https://github.com"} if path.parent.name == "vendor" else set()
        assert addresses <= {"http://www.w3.org"} | comment, path  # SVG's name space


def test_files_of_others_are_unchanged_and_come_with_their_licence():
    """The SHA-256 of the files in npm's package uplot 1.6.32."""
    folder = routes.FOLDER / "vendor"
    assert {path.name: sha256_of(path)[:16] for path in folder.iterdir() if path.suffix != ".md"} == {
        "uPlot.LICENSE": "8f989229699b4fe2",
        "uPlot.iife.min.js": "19c8d4c6ad88929a",
        "uPlot.min.css": "df630c6a8d6f8eea",
    }
    assert "MIT License" in (folder / "uPlot.LICENSE").read_text()


def test_one_connection_takes_many_requests_and_head_has_no_body():
    with page() as one:
        one.put(result())
        lines = ["GET /healthz HTTP/1.1", f"Host: 127.0.0.1:{one.port}"]
        connection = send(one.port, *lines)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall("\r\n".join([*lines, "Connection: close"]).encode() + b"\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")
        for path in ("/", "/snapshot.jpg", "/events", "/stream.mjpg"):
            status, _, body = ask(one.port, path, method="HEAD")
            assert (status, body.strip("0\r\n")) == (200, ""), path


def test_the_document_names_every_address_and_every_metric():
    text = (ROOT / "docs/web.md").read_text()
    addresses = set(routes.ROUTES) - (set(routes.FILES) - {"/", "/events-page", "/zones-page"})
    assert set(re.findall(r"`(/[\w.-]*)`", "".join(re.findall(r"^\|(.*?)\|", text, re.MULTILINE)))) == addresses
    with page((stats("door"),)) as one:
        one.put(result(camera="door", class_ids=(0,), age_ms=50.0))
        families = re.findall(r"^# TYPE (\w+) ", ask(one.port, "/metrics")[2], re.MULTILINE)
    assert len(families) == 14
    for name in families:
        assert f"`{name}`" in text, name


def test_a_health_check_of_a_container_asks_with_the_token(monkeypatch, capsys):
    with page(token=TOKEN) as one:
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
        assert probe.main([str(one.port)]) == 1  # without the token
        monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        assert probe.main([str(one.port)]) == 0
    with page(token=TOKEN, unhealthy_s=0.05) as one:
        wait_until(lambda: probe.main([str(one.port)]) == 1)
    assert probe.main([str(one.port)]) == 1
    assert "no answer: " in capsys.readouterr().out
