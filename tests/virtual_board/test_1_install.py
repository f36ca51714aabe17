"""edgedet is installed by the commands of the documents, word for word, and runs on a V4L2 camera."""

from __future__ import annotations

import re

import pytest
from documents import commands
from virtual_board import NOT_DEBIANS, PI, PI_CAMERA, PI_PACKAGES, PI_VENV, PI_VENV_FOLDER, VirtualBoard

pytestmark = pytest.mark.board


def test_the_packages_of_the_raspberry_pi_page_can_be_installed(board: VirtualBoard):
    for line in commands(PI, PI_PACKAGES):
        if "reboot" in line or any(name in line for name in NOT_DEBIANS):
            continue  # it has just been started; picamera2 is Raspberry Pi's own, not Debian's
        board.run(line.replace("apt install", "apt install --yes"), user="pi")


def test_the_virtual_environment_of_the_raspberry_pi_page_is_filled(board: VirtualBoard, figure):
    board.run(f"{PI_VENV_FOLDER}/bin/pip uninstall --yes edgedet; cp /mnt/payload/*.whl .", user="pi")
    for line in commands(PI, PI_VENV):
        if "install" in line:  # the environment itself was made with the image: emulated, it takes minutes
            answer = board.ask(line, user="pi", limit_s=300)
            assert answer.code == 0, answer.text
            figure("pip install, s", round(answer.seconds))


@pytest.mark.ci
def test_doctor_finds_an_engine_and_gstreamer(board: VirtualBoard, figure):
    (line,) = [line for line in commands(PI, PI_VENV) if "doctor" in line]
    answer = board.ask(line, user="pi", limit_s=300)
    assert answer.code == 0, answer.text
    assert "Models that can run here: .tflite" in answer.text
    assert "GStreamer yes" in answer.text
    assert "INT8: yes" in answer.text
    figure("doctor, s", round(answer.seconds))


def test_the_advice_of_doctor_is_followed_until_it_has_none(board: VirtualBoard):
    board.run("~/edgedet/bin/pip uninstall --yes ai-edge-litert", user="pi")
    followed: list[str] = []
    while len(followed) < 3:
        answer = board.ask("~/edgedet/bin/edgedet doctor", user="pi")
        if answer.code == 0:
            break
        assert answer.code == 1, answer.text
        blocking = answer.text.split("\n\n")[0]
        advice = re.findall(r"^  (\S.*)\n {6}# ", blocking, re.MULTILINE)
        assert advice, answer.text
        board.run(advice[0], user="pi", limit_s=300)
        followed.append(advice[0])
    assert answer.code == 0, answer.text
    assert followed, "without an engine doctor had nothing to say"
    assert "Models that can run here: .tflite" in answer.text


@pytest.mark.ci
def test_the_camera_page_of_the_raspberry_pi_runs(board: VirtualBoard, figure):
    (line,) = [line for line in commands(PI, PI_CAMERA) if "--camera 0" in line]
    board.run("cp ~/edgedet/lib/python3*/site-packages/edgedet/demo/*_int8.tflite my_int8.tflite", user="pi")
    answer = board.ask(
        line.replace("--show", "--jsonl found.jsonl --limit 1"), user="pi", limit_s=300
    )  # it has no screen
    assert answer.code == 0, answer.text
    assert len(board.json_lines("/home/pi/found.jsonl")) == 1
    figure("a frame of D0 by the demo's INT8 file, s", round(answer.seconds))
