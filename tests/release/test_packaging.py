"""What a release holds: both halves once each, the demo's files, and extras that bring what they say."""

from __future__ import annotations

import re
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from installs import HOST_FOLDERS, ROOT, build, copy_sources, run

from edgedet import __version__

pytestmark = pytest.mark.filterwarnings("default")  # warnings of the build tools are not ours


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build(copy_sources(folder / "tree", links=True), "sdist", folder / "out")


@pytest.fixture(scope="module")
def wheel_of_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "tree")
    (tree,) = (folder / "tree").iterdir()
    return build(tree, "wheel", folder / "out")


def packaged_names(wheel: Path) -> list[str]:
    return sorted(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)


def source_names() -> list[str]:
    """Every file of the four folders but the studies, under the name that it is imported by."""
    names = []
    for folder in ("edgedet", *HOST_FOLDERS):
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT)
            through_link = inside.parts[0] == "edgedet" and inside.parts[1] in HOST_FOLDERS
            study = inside.parts[:2] == ("benchmarks", "studies")
            if path.is_file() and not through_link and not study and "__pycache__" not in inside.parts:
                names.append(inside.as_posix() if folder == "edgedet" else f"edgedet/{inside.as_posix()}")
    return sorted(names)


def test_the_wheel_of_the_sdist_holds_every_file_of_both_halves_once(wheel_of_sdist: Path):
    assert packaged_names(wheel_of_sdist) == source_names()


def test_no_generic_name_lands_in_site_packages(wheel_of_sdist: Path):
    assert {name.split("/")[0] for name in packaged_names(wheel_of_sdist)} == {"edgedet"}


def test_a_wheel_does_not_need_the_links(wheel_of_sdist: Path, tmp_path: Path):
    """An archive without symbolic links, as some systems unpack it, gives the same wheel."""
    wheel = build(copy_sources(tmp_path / "tree", links=False), "wheel", tmp_path / "out")
    assert packaged_names(wheel) == packaged_names(wheel_of_sdist)


@pytest.mark.parametrize("links", [True, False])
def test_an_editable_install_imports_the_host_folders_under_edgedet(links: bool, tmp_path: Path):
    tree = copy_sources(tmp_path / "tree", links)
    wheel = build(tree, "editable", tmp_path / "out")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = str(tmp_path / "venv/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--isolated", "install", "--no-index", "--no-deps"]
    installed = run([*pip, str(wheel)], cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    code = "import edgedet.export, edgedet.benchmarks as b; print(edgedet.export.__file__, b.__file__, sep='\\n')"
    done = run([python, "-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = [Path(line).resolve() for line in done.stdout.splitlines()]
    assert files == [tree / "export/__init__.py", tree / "benchmarks/__init__.py"]


def requirements(wheel: Path) -> dict[str, set[str]]:
    """Package names per extra, "" for what is always installed, from the wheel's metadata."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    found: dict[str, set[str]] = {extra: set() for extra in ["", *metadata.get_all("Provides-Extra", [])]}
    for line in metadata.get_all("Requires-Dist", []):
        extra = re.search(r'extra == "(\w+)"', line)
        found[extra[1] if extra else ""].add(re.match(r"[\w-]+", line)[0])
    return found


def test_plain_edgedet_needs_numpy_only_and_extras_bring_the_rest(wheel_of_sdist: Path):
    needs = requirements(wheel_of_sdist)
    assert needs[""] == {"numpy"}
    assert needs["pc"] == {"opencv-python", "onnxruntime", "ai-edge-litert"}
    assert needs["pc"] | {"torch", "onnx", "safetensors"} <= needs["export"]
    assert needs["tensorrt"] == {"pycuda"}
    features = set(needs) - {"", "all", "dev", "rtx", "tensorrt"}  # not tensorrt: pycuda needs CUDA's headers
    assert needs["all"] == set.union(*(needs[extra] for extra in features))
    assert needs["all"] | {"pytest", "ruff", "mypy"} <= needs["dev"]


def test_every_extra_that_a_text_names_exists(wheel_of_sdist: Path):
    """Error messages and documents say pip install 'edgedet[pc]' and the like."""
    extras = set(requirements(wheel_of_sdist))
    texts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), ROOT / "edgedet/errors.py"]
    named = {name for path in texts for name in re.findall(r"(?:edgedet|'\.)\[(\w+)\]", path.read_text())}
    assert "pc" in named
    assert named <= extras


def demo_frames() -> list[np.ndarray]:
    import cv2

    capture = cv2.VideoCapture(str(ROOT / "edgedet/demo/street.mp4"))
    frames = []
    while True:
        more, bgr = capture.read()
        if not more:
            return frames
        frames.append(bgr)


def test_the_demo_clip_is_15_seconds_at_10_frames_a_second():
    frames = demo_frames()
    assert len(frames) == 150
    assert {frame.shape for frame in frames} == {(576, 768, 3)}


def test_the_demo_clip_is_the_end_of_the_video_that_its_attribution_names(shared_dir: Path):
    """Frame i is frame 645 + i of vtest.avi within H.264's loss: 39 dB PSNR or more; its neighbours give 22 to 29."""
    import cv2

    capture = cv2.VideoCapture(str(shared_dir / "media/vtest.avi"))
    source = []
    while True:
        more, bgr = capture.read()
        if not more:
            break
        source.append(bgr)
    assert len(source) == 795
    for frame, original in zip(demo_frames(), source[645:], strict=True):
        squared = float(np.mean((frame.astype(np.float32) - original) ** 2))
        assert 10 * np.log10(255**2 / squared) > 38


def test_every_demo_file_is_attributed():
    folder = ROOT / "edgedet/demo"
    text = (folder / "ATTRIBUTION.md").read_text()
    files = {path.name for path in folder.iterdir() if path.is_file()} - {"ATTRIBUTION.md", "__init__.py"}
    assert "street.mp4" in files
    assert {name for name in files if f"## {name}" not in text} == set()


def test_the_version_is_the_same_wherever_it_is_written():
    changelog = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert changelog is not None
    assert citation is not None
    assert changelog[1] == citation[1] == __version__
