"""edgedet beside numpy alone: it imports, answers --help, and names the pip command for what is missing.

The device half also on Python 3.8, the oldest that it is for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installs import HOST_FOLDERS, ROOT, build, copy_sources, make_bare_venv, run
from media import picture, write_clip, write_fake_model

from edgedet import demo
from edgedet.cli import COMMANDS
from edgedet.errors import MissingDependency, require

BENCH_ROOMS = ("latency", "profile")  # of benchmarks/, which a board needs
OLDEST_NUMPY = "numpy==1.17.4"  # of JetPack 5, with Python 3.8
HOST_COMMANDS = {
    f"edgedet.commands.{name}"
    for name in ("bench", "export", "export_options", "import_", "plan", "sensitivity", "sweep", "train")
}
HOST_MODULES = tuple(f"edgedet.{name}" for name in HOST_FOLDERS)
HEAVY = ("cv2", "torch", "onnx", "onnxruntime", "skimage", "tqdm", "safetensors", "pycocotools", *HOST_MODULES)
IMPORT = """
import importlib, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
print(" ".join(name for name in sys.argv[2].split() if name in sys.modules))
"""
RUN = """
import sys
from edgedet.cli import main
assert main(sys.argv[1:]) == 0
print(*sys.modules, file=sys.stderr)
"""
HELPS = """
import contextlib, io, json, sys
from edgedet.cli import main
helps = {}
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main([name, "--help"])
        except SystemExit as end:
            code = end.code
    helps[name] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(helps))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a virtual environment with numpy and edgedet's wheel, and no pip."""
    folder = tmp_path_factory.mktemp("bare")
    wheel = build(copy_sources(folder / "tree", links=True), "wheel", folder / "out")
    return make_bare_venv(folder / "venv", wheel)


def device_modules() -> list[str]:
    paths = [path for path in (ROOT / "edgedet").rglob("*.py") if path.parts[len(ROOT.parts) + 1] not in HOST_FOLDERS]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in sorted(paths)]
    return [name for name in names if name != "edgedet.__main__" and name not in HOST_COMMANDS]


def check_device_half(python: str, cwd: Path, **environment: str) -> None:
    """Import every device module in one process; nothing of HEAVY may come along."""
    done = run([python, "-c", IMPORT, " ".join(device_modules()), " ".join(HEAVY)], cwd, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_check_sees_a_heavy_import(tmp_path: Path):
    done = run([sys.executable, "-c", IMPORT, "edgedet.export", "edgedet.export torch"], tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout.split() == ["edgedet.export"]


def test_every_device_module_imports_beside_numpy_alone(bare: Path, tmp_path: Path):
    check_device_half(str(bare / "python"), tmp_path)


def test_the_device_half_imports_nothing_heavy_where_everything_is_installed(tmp_path: Path):
    check_device_half(sys.executable, tmp_path, PYTHONPATH=str(ROOT))


def test_a_run_loads_events_mqtt_and_the_page_only_where_it_has_them(tmp_path: Path):
    """They were 80 of the 215 ms until a run begins; what stays are the names of their options."""
    cv2 = pytest.importorskip("cv2", reason="a run reads pictures by OpenCV")
    write_fake_model(tmp_path / "model.fake")
    cv2.imwrite(str(tmp_path / "street.png"), picture(100))
    outside = {"sqlite3", "asyncio", "tornado", "paho", "prometheus_client"}

    def loaded(*options: str) -> set[str]:
        done = run([sys.executable, "-c", RUN, "run", "model.fake", *options], tmp_path, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr
        names = set(done.stderr.splitlines()[-1].split())
        return {name for name in names if name.startswith(("edgedet.events.", "edgedet.web.")) or name in outside}

    assert loaded("street.png") == {"edgedet.events.mqtt_options", "edgedet.web.defaults"}
    write_clip(tmp_path / "clip.avi", frames=2)
    assert {"edgedet.events.sink", "sqlite3"} <= loaded("clip.avi", "--events", "happened")


@pytest.fixture(scope="module")
def helps(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """What each command's --help came to: exit code, stdout, stderr. One process asks them all."""
    done = run([str(bare / "python"), "-c", HELPS, *COMMANDS], tmp_path_factory.mktemp("helps"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_answers_with_an_example(name: str, helps: dict[str, list]):
    code, out, err = helps[name]
    assert (code, err) == (0, "")
    example = out.split("example:\n", 1)[1]
    assert example.strip().startswith(f"edgedet {name} ")


def test_the_overview_names_every_command(bare: Path, tmp_path: Path):
    done = run([str(bare / "edgedet"), "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    for name, (_, text) in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert text in done.stdout


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line that a refused command printed."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgedet: ")
    return line


def test_export_names_the_pip_command_for_torch(bare: Path, tmp_path: Path):
    done = run([str(bare / "edgedet"), "export", "--phi", "0", "--weights", "demo"], tmp_path)
    assert "needs torch, which is not installed: pip install 'edgedet[export]'" in one_line(done)
    assert list(tmp_path.iterdir()) == []


def test_run_names_the_pip_command_for_opencv(bare: Path, tmp_path: Path):
    done = run([str(bare / "edgedet"), "run", "--source", str(demo.CLIP), "--save", "out.mp4"], tmp_path)
    assert "needs cv2, which is not installed: pip install 'edgedet[pc]'" in one_line(done)
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_model_or_torch_names_what_would_export_the_demo(tmp_path: Path):
    """OpenCV and onnxruntime are there, nothing has been exported; torch and what runs the bundled INT8 file is not."""
    command = ["run", "--source", str(demo.CLIP), "--save", "out.mp4"]
    hidden = {"torch": None, "ai_edge_litert": None, "tflite_runtime": None}
    code = f"import sys; sys.modules.update({hidden}); from edgedet.cli import main; sys.exit(main({command!r}))"
    done = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 2, done.stderr
    assert "pip install 'edgedet[tflite]' runs the bundled one" in done.stderr.splitlines()[-1]
    assert "needs torch, which is not installed: pip install 'edgedet[export]'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_to_type_first_and_exits_with_1(bare: Path, tmp_path: Path):
    done = run([str(bare / "edgedet"), "doctor"], tmp_path)
    assert done.returncode == 1, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "No model can run here yet. Type:"
    assert rest[0].startswith(("  pip install opencv-python", "  sudo apt install python3-opencv", "  python3 -m venv"))
    assert rest[2] == "  pip install ai-edge-litert"
    assert done.stderr == ""


@pytest.fixture(scope="module")
def python38(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python 3.8 with the oldest numpy that edgedet admits; skips where there is no such Python."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python3.8"), *map(str, pyenv.glob("versions/3.8.*/bin/python"))]
    works = [
        path for path in candidates if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode
    ]
    if not works:
        pytest.skip("needs python3.8 on the PATH or in pyenv")
    folder = tmp_path_factory.mktemp("python38")
    python = str(folder / "bin/python")
    run([works[0], "-m", "venv", "--without-pip", str(folder)], folder)
    into = ["--target", str(folder / "lib/python3.8/site-packages"), "--python-version", "3.8", "--no-compile"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--no-deps", *into]
    installed = run([*pip, OLDEST_NUMPY], folder)
    if installed.returncode:
        pytest.skip(f"pip could not install numpy for Python 3.8: {installed.stderr.splitlines()[-1]}")
    return python


def test_every_device_module_imports_on_python_3_8(python38: str, tmp_path: Path):
    check_device_half(python38, tmp_path, PYTHONPATH=str(copy_sources(tmp_path / "tree", links=False)))


def test_run_answers_help_on_python_3_8(python38: str, tmp_path: Path):
    tree = str(copy_sources(tmp_path / "tree", links=False))
    done = run([python38, "-m", "edgedet", "run", "--help"], tmp_path, PYTHONPATH=tree)
    assert done.returncode == 0, done.stderr
    assert "example:\nedgedet run " in done.stdout.replace("example:\n  ", "example:\n")


def test_bench_imports_on_python_3_8(python38: str, tmp_path: Path):
    """JetPack 5 has it, and FPS on a Jetson is what `edgedet bench` is for."""
    tree = copy_sources(tmp_path / "tree", links=True)
    rooms = [tree / "benchmarks" / name for name in BENCH_ROOMS]
    names = [f"edgedet.benchmarks.{path.parent.name}.{path.stem}" for room in rooms for path in room.glob("[!_]*.py")]
    assert "edgedet.benchmarks.latency.bench" in names
    done = run(
        [python38, "-c", IMPORT, " ".join(["edgedet.commands.bench", *names]), ""], tmp_path, PYTHONPATH=str(tree)
    )
    assert done.returncode == 0, done.stderr


def test_doctor_answers_on_python_3_8(python38: str, tmp_path: Path):
    tree = str(copy_sources(tmp_path / "tree", links=False))
    done = run([python38, "-m", "edgedet", "doctor"], tmp_path, PYTHONPATH=tree)
    assert done.returncode == 1, done.stderr
    assert "  pip install onnxruntime\n" in done.stdout


def test_a_package_that_does_not_load_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As pip's OpenCV without libGL.so.1: installed, but its shared library is not there."""
    (tmp_path / "half_there.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingDependency, match=r"^edgedet run needs half_there, which is installed but does not load: lib"
    ):
        require("half_there", "edgedet run")
