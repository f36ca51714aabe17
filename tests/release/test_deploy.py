"""What deploy/ holds fits what edgedet is: options that parse, files that exist, a unit without faults."""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from installs import HOST_FOLDERS, ROOT

from edgedet.commands import run as command
from edgedet.errors import CameraError, DeviceError, InputError, UnavailableError
from edgedet.web.defaults import TOKEN_VARIABLE
from edgedet.web.guard import check_token, place_of

DEPLOY = ROOT / "deploy"
TOKEN = "0123456789abcdef"


def parsed(options: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    return parser.parse_args(options)


def test_the_services_options_are_those_of_run_and_want_the_token():
    values = dict(line.split("=", 1) for line in (DEPLOY / "edgedet.env").read_text().splitlines() if "=" in line)
    args = parsed(shlex.split(values["EDGEDET_ARGS"]))
    assert values[TOKEN_VARIABLE] == ""  # of the user's own making; an empty one is none
    check_token(place_of(args.web), TOKEN)
    assert args.camera == ["0"]


def test_the_watchdog_waits_longer_than_a_camera_takes_to_come_back():
    unit = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    unit.optionxform = str  # systemd's names have capitals
    unit.read(DEPLOY / "edgedet.service")
    service = unit["Service"]
    assert (service["Type"], service["SuccessExitStatus"]) == ("notify", "143 129")
    args = parsed([])
    assert float(service["WatchdogSec"]) > 3 * args.timeout + 30  # LONGEST_WAIT_S between two openings
    assert service["ExecStart"].endswith("/edgedet run $EDGEDET_ARGS")


def test_the_service_is_tried_again_unless_its_options_are_wrong():
    unit = (DEPLOY / "edgedet.service").read_text()
    prevented = re.search(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    assert prevented is not None
    assert prevented[1] == str(InputError.exit_code)
    assert {CameraError.exit_code, UnavailableError.exit_code, DeviceError.exit_code} == {4}
    assert "StartLimitIntervalSec=0" in unit
    assert "RestartPreventExitStatus=2" in (ROOT / "docs/raspberry-pi.md").read_text()


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    text = (DEPLOY / "edgedet.service").read_text()
    unit = tmp_path / "edgedet.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    about_ours = [line for line in done.stderr.splitlines() if "edgedet.service" in line]
    assert about_ours == []


def test_the_image_copies_what_exists_and_runs_what_parses():
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [name for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert {"setup.py", "edgedet", *HOST_FOLDERS} <= set(sources)  # setup.py wants every folder that it names
    for name in sources:
        assert (ROOT / name).exists(), name
    (start,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    run, *options = json.loads(start)
    args = parsed(options)
    assert (run, args.web, args.loop) == ("run", "0.0.0.0:8080", True)
    assert "edgedet.web.probe" in text
    assert len(re.findall(r"^FROM debian:bookworm-slim", text, re.MULTILINE)) == 2


def test_the_composition_starts_with_options_that_parse_and_keeps_the_token_out_of_the_file():
    text = (DEPLOY / "compose.yaml").read_text()
    (start,) = re.findall(r"^    command: (\[.*\])$", text, re.MULTILINE)
    _, *options = json.loads(start)
    assert parsed(options).camera == ["0"]
    assert f"{TOKEN_VARIABLE}: ${{{TOKEN_VARIABLE}:?" in text
    yaml = pytest.importorskip("yaml", reason="needs PyYAML to parse the file whole")
    service = yaml.safe_load(text)["services"]["edgedet"]
    assert service["build"]["dockerfile"] == "deploy/Dockerfile"
    assert service["cap_drop"] == ["ALL"]
