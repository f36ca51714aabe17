"""`edgedet doctor`: from a machine, its Python and what each package does follow the models that run, and the fixes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedet.board.doctor import PythonFacts, diagnose, list_system_packages, read_video_support
from edgedet.board.probe import CHECKS, Probe
from edgedet.board.this_machine import report_figures
from edgedet.cli import main
from edgedet.machine import Machine

BUILD = """
  GUI:                           {gui}
  Video I/O:
    FFMPEG:                      {ffmpeg}
      avcodec:                   YES (59.37.100)
    GStreamer:                   {gstreamer}
    v4l/v4l2:                    {v4l}
"""


def build(gstreamer: str = "YES (1.22.0)") -> str:
    return BUILD.format(gui="GTK3", ffmpeg="YES", gstreamer=gstreamer, v4l="YES (linux/videodev2.h)")


def test_what_opencv_was_built_with_is_read_from_its_build_information():
    full = {"GStreamer": True, "V4L2": True, "FFMPEG": True, "window": True}
    assert read_video_support(build()) == full
    assert read_video_support(build("NO")) == {**full, "GStreamer": False}
    poor = BUILD.format(gui="NONE", ffmpeg="NO", gstreamer="NO", v4l="NO")
    assert read_video_support(poor) == dict.fromkeys(full, False)
    assert read_video_support("  GUI:   GTK3\n") == {**dict.fromkeys(full, False), "window": True}
    assert read_video_support("") == {}


def test_packages_of_the_systems_python_are_found_in_its_folders(tmp_path: Path):
    folder = tmp_path / "usr/lib"
    for file in (
        folder / "python3/dist-packages/cv2.cpython-311-aarch64-linux-gnu.so",
        folder / "python3.8/dist-packages/tensorrt/__init__.py",
    ):
        file.parent.mkdir(parents=True)
        file.touch()
    assert list_system_packages(tmp_path, (3, 11, 2)) == ("cv2",)
    assert list_system_packages(tmp_path, (3, 8, 10)) == ("cv2", "tensorrt")


PC = Machine(None, "AMD EPYC", "x86_64", 2, {"AVX2": True, "VNNI": True}, None, None, None, {})
PI = Machine(
    "Raspberry Pi 5 Model B", "Cortex-A76", "aarch64", 4, {"dot product": True, "i8mm": False}, None, None, None, {}
)
ORIN = Machine("NVIDIA Jetson Orin", "Cortex-A78AE", "aarch64", 8, {}, "NVIDIA Jetson Orin", "R36.4.0", True, {})
PYCUDA = "sudo apt install build-essential python3-dev && PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
NANO = replace(ORIN, board="NVIDIA Jetson Nano", gpu="NVIDIA Jetson Nano", jetpack="R32.7.1", gpu_int8=False)
CLOSED_VENV = PythonFacts((3, 11, 2), "/v/bin/python", "/v", False, ("cv2", "picamera2"))
OPEN_VENV = replace(CLOSED_VENV, sees_system=True)
NO_VENV = replace(OPEN_VENV, venv=None)
OLD = replace(OPEN_VENV, version=(3, 8, 10))
SYSTEM_CV2 = Probe("cv2", "works", "4.6.0", "/usr/lib/python3/dist-packages/cv2.so", build=build())
PIPS_CV2 = Probe("cv2", "works", "5.0.0", "/v/lib/python3.11/site-packages/cv2/__init__.py", build=build("NO"))


def probes(**found: Probe | str) -> dict[str, Probe]:
    """Probes of all packages: "missing" but for numpy and those given, by a Probe or a version that works."""
    named = {name: Probe(name, "missing") for name in CHECKS}
    named["numpy"] = Probe("numpy", "works", "1.26.4")
    for name, value in found.items():
        named[name] = Probe(name, "works", value) if isinstance(value, str) else value
    return named


def fixes(machine: Machine, python: PythonFacts, **found: Probe | str) -> list[tuple[str, bool]]:
    return [(finding.fix, finding.blocks) for finding in diagnose(machine, python, probes(**found)).findings]


def test_opencv_and_one_engine_are_enough():
    report = diagnose(PC, OPEN_VENV, probes(cv2=SYSTEM_CV2, onnxruntime="1.32.0"))
    assert report.runs == (".onnx",)
    assert diagnose(PC, OPEN_VENV, probes(cv2=SYSTEM_CV2, ai_edge_litert="2.3.0")).runs == (".tflite",)
    assert diagnose(PC, OPEN_VENV, probes(onnxruntime="1.32.0")).runs == ()
    assert diagnose(PC, OPEN_VENV, probes(cv2=SYSTEM_CV2)).runs == ()


def test_a_bare_environment_gets_the_two_commands_that_it_needs():
    pc = [("pip install opencv-python", True), ("pip install ai-edge-litert", True)]
    assert fixes(PC, CLOSED_VENV) == pc
    board = fixes(PI, replace(CLOSED_VENV, system_has=()))
    assert board[0] == ("sudo apt install python3-opencv && python3 -m venv --system-site-packages /v", True)
    assert board[1] == ("pip install ai-edge-litert", True)


def test_a_venv_that_hides_the_boards_opencv_is_opened():
    assert fixes(PI, CLOSED_VENV, ai_edge_litert="2.3.0") == [
        ("python3 -m venv --system-site-packages /v", True),  # OpenCV
        ("python3 -m venv --system-site-packages /v", False),  # picamera2
    ]


def test_a_board_that_has_all_needs_nothing():
    assert fixes(PI, OPEN_VENV, cv2=SYSTEM_CV2, ai_edge_litert="2.3.0") == []


def test_pips_opencv_on_a_board_is_told_to_give_way():
    ((fix, blocks),) = fixes(PI, OPEN_VENV, cv2=PIPS_CV2, ai_edge_litert="2.3.0")
    assert fix.startswith("pip uninstall -y opencv-python ")
    assert not blocks
    assert fixes(PC, OPEN_VENV, cv2=PIPS_CV2, ai_edge_litert="2.3.0") == []


def test_python_3_8_is_given_onnxruntime_which_still_has_wheels_for_it():
    assert fixes(PC, OLD, cv2=SYSTEM_CV2) == [("pip install onnxruntime", True)]
    assert fixes(PC, OLD, cv2=SYSTEM_CV2, onnxruntime="1.19.2") == []


def test_int8_on_a_cpu_is_missed_where_only_onnxruntime_is():
    assert fixes(PC, OPEN_VENV, cv2=SYSTEM_CV2, onnxruntime="1.32.0") == [("pip install ai-edge-litert", False)]


@pytest.mark.parametrize(
    ("reason", "numpy", "fix"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "2.4.6", "sudo apt install libgl1 libglib2.0-0"),
        ("ImportError: numpy.core.multiarray failed to import", "2.0.2", "pip install 'numpy<2'"),
        ("AttributeError: _ARRAY_API not found", "2.0.2", "pip install 'numpy<2'"),
        (
            "ImportError: numpy.core.multiarray failed to import",
            "1.17.4",
            "pip install --force-reinstall opencv-python",
        ),
        ("it ended the process with SIGILL", "1.26.4", "pip install --force-reinstall opencv-python"),
    ],
)
def test_an_opencv_that_does_not_load_is_mended_by_its_reason(reason: str, numpy: str, fix: str):
    cv2 = Probe("cv2", "broken", reason=reason)
    assert fixes(PC, OPEN_VENV, cv2=cv2, numpy=numpy, onnxruntime="1.32.0", ai_edge_litert="2.3.0") == [(fix, True)]


def test_tflite_runtime_beside_numpy_2_wants_numpy_1():
    broken = Probe("tflite_runtime", "broken", "2.14.0", reason="SystemError: initialization failed")
    found = fixes(PC, OLD, cv2=SYSTEM_CV2, numpy="2.0.2", tflite_runtime=broken, onnxruntime="1.19.2")
    assert found == [("pip install 'numpy<2'", False)]


def test_an_engine_that_computes_wrong_numbers_does_not_count_even_beside_another_for_the_same_files():
    """edgedet opens .tflite files with LiteRT where both are installed."""
    wrong = Probe("ai_edge_litert", "wrong", "2.3.0", reason="off by 31")
    report = diagnose(PI, OPEN_VENV, probes(cv2=SYSTEM_CV2, ai_edge_litert=wrong, tflite_runtime="2.14.0"))
    assert report.runs == ()
    assert [(finding.fix, finding.blocks) for finding in report.findings] == [
        ("pip install onnxruntime", True),
        ("pip install --upgrade ai-edge-litert", True),
    ]


def test_tensorrt_and_a_way_to_the_gpu_are_missed_where_a_gpu_is_only():
    has = dict(cv2=SYSTEM_CV2, ai_edge_litert="2.3.0", onnxruntime="1.32.0")
    hidden = replace(CLOSED_VENV, system_has=("cv2", "tensorrt"))
    assert fixes(ORIN, hidden, **has) == [("python3 -m venv --system-site-packages /v", False)]
    assert fixes(replace(PC, gpu="NVIDIA T4"), OPEN_VENV, **has) == [("pip install tensorrt", False)]
    assert fixes(replace(PC, gpu="NVIDIA T4"), OPEN_VENV, **has, tensorrt="10.3.0") == [
        ("pip install cuda-python", False)
    ]
    assert fixes(ORIN, OPEN_VENV, **has, tensorrt="10.3.0") == [(f"{PYCUDA} (or: pip install 'cuda-python<13')", False)]
    assert fixes(PC, OPEN_VENV, **has) == []


def test_tensorrt_with_a_way_to_the_gpu_runs_engines_and_needs_no_other():
    report = diagnose(ORIN, OPEN_VENV, probes(cv2=SYSTEM_CV2, tensorrt="10.3.0", cuda="pycuda"))
    assert report.runs == (".engine",)
    assert [finding for finding in report.findings if finding.blocks] == []
    assert report.int8["tensorrt"] == "yes, NVIDIA Jetson Orin"


def test_a_jetson_nano_is_not_sent_for_a_tensorrt_that_it_cannot_have():
    old = Probe("tensorrt", "broken", "8.2.1", reason="UnsupportedError: needs TensorRT 8.5 or newer")
    has = dict(cv2=SYSTEM_CV2, ai_edge_litert="2.3.0", onnxruntime="1.32.0")
    assert fixes(NANO, OPEN_VENV, **has, tensorrt=old) == [
        ("run .onnx or .tflite files: this board gets no newer one", False)
    ]
    assert diagnose(NANO, OPEN_VENV, probes(tensorrt="10.3.0")).int8["tensorrt"].startswith("no: NVIDIA Jetson Nano")


@pytest.mark.parametrize(
    ("jetpack", "release", "wheel"),
    [
        ("5.1", "R35.4.1", "cuda-python<11.8.4"),
        ("5.1", "R35.10.0", "cuda-python<11.8.4"),
        ("6", "R36.4.0", "cuda-python<13"),
        ("7", "R38.2.0", "cuda-python<14"),
        ("7", "R39.0.0", "cuda-python<14"),
    ],
)
def test_each_jetpack_is_given_the_way_to_cuda_that_it_can_have(jetpack: str, release: str, wheel: str):
    """The newest cuda-python that has wheels for its Python and CUDA; docs/jetson.md says the same."""
    board = replace(ORIN, jetpack=release)
    has = dict(cv2=SYSTEM_CV2, ai_edge_litert="2.3.0", onnxruntime="1.32.0", tensorrt="10.3.0")
    assert fixes(board, OPEN_VENV, **has) == [(f"{PYCUDA} (or: pip install '{wheel}')", False)]
    page = (Path(__file__).resolve().parents[2] / "docs" / "jetson.md").read_text(encoding="utf-8")
    assert f"| {jetpack} | `pip install '{wheel}'` |" in page
    packages, build = PYCUDA.split(" && ")
    assert f"\n{build}\n" in page
    assert all(package in page for package in packages.split()[3:])


@pytest.mark.parametrize("release", ["R34.1.1", "R35.1.0"])
def test_jetpack_5_0_is_sent_to_5_1_and_not_taken_for_jetpack_4(release: str):
    old = Probe("tensorrt", "broken", "8.4.1", reason="UnsupportedError: needs TensorRT 8.5 or newer")
    report = diagnose(replace(ORIN, jetpack=release), OPEN_VENV, probes(cv2=SYSTEM_CV2, tensorrt=old))
    (finding,) = (finding for finding in report.findings if "TensorRT" in finding.what)
    assert finding.what == "TensorRT, for the GPU, of JetPack 5.0 is too old"
    assert finding.fix == "install JetPack 5.1 or newer (docs/jetson.md)"


def test_a_camera_that_this_user_may_not_open_is_named():
    closed = replace(PC, cameras={"/dev/video0": False})
    assert fixes(closed, OPEN_VENV, cv2=SYSTEM_CV2, ai_edge_litert="2.3.0") == [
        ("sudo usermod -aG video $USER, then log in again", False)
    ]


def test_int8_is_told_by_engine_and_cpu():
    found = probes(ai_edge_litert="2.3.0", onnxruntime="1.32.0")
    assert diagnose(PI, OPEN_VENV, found).int8["ai_edge_litert"] == "yes, checked here; uses dot product"
    pi4 = replace(PI, features={"dot product": False, "i8mm": False})
    assert "no INT8 dot product" in diagnose(pi4, OPEN_VENV, found).int8["ai_edge_litert"]
    assert diagnose(PI, OPEN_VENV, found).int8["onnxruntime"].startswith("no: ")


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_prints_what_is_there_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "doctor.json"
    assert main(["doctor", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Models that can run here: .tflite, .onnx\n")
    assert "INT8: yes, checked here" in text
    figures = json.loads(path.read_text())
    assert figures["runs"] == [".tflite", ".onnx"]
    assert figures["probes"]["numpy"]["version"] == np.__version__
    assert figures["video"]["FFMPEG"]
    assert figures["probes"]["cuda"]["state"] in ("missing", "broken", "works")


def test_the_figures_are_json():
    report = diagnose(PI, CLOSED_VENV, probes(cv2=SYSTEM_CV2))
    figures = json.loads(json.dumps(report_figures(report)))
    assert figures["findings"][0]["fix"] == "pip install ai-edge-litert"
    assert "build" not in figures["probes"]["cv2"]
