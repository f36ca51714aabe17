"""The table of engines: names, file suffixes, packages and hardware. A new engine is a row here and a module.

Everything that depends on an engine's name, file suffix or package reads this table: opening files, ``doctor``,
``run``, ``info``, ``bench``, the planner and error messages. Standard library only; no engine is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Optional, Tuple, Union

from ..errors import InputError

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Package:
    """A Python package that runs model files.

    module:     the name that is imported.
    install:    the command that installs it.
    python:     the oldest Python that it has wheels for.
    int8:       what INT8 means with it, as ``edgedet doctor`` prints it; "{cpu}" stands for the CPU's INT8 features.
    int8_x86:   the same on x86-64, where that differs.
    """

    module: str
    install: str
    python: Tuple[int, int] = (3, 8)
    int8: str = ""
    int8_x86: str = ""

    @property
    def distribution(self) -> str:
        """The package's name for pip."""
        return self.module.replace("_", "-")


@dataclass(frozen=True)
class EngineSpec:
    """One engine.

    name:         the name in ``bench --engine`` and in the planner.
    title:        the name in messages.
    module:       imported on first use; has ``open_model(path, threads) -> (ArtifactMeta, Engine)`` and, where metadata
                  can be read without the engine's package, ``read_meta(path) -> ArtifactMeta``. If files are bound to
                  the machine, ``open_model`` raises OutdatedError on another one, and ``rebuild(path)`` builds them.
    suffixes:     of its model files, lower case.
    packages:     the first one that is installed runs the files; () where none is needed.
    hardware:     "CPU" or "GPU".
    needs:        names of further probes of ``edgedet doctor`` that must work.
    files:        precision -> end of the names of files that edgedet writes for it.
    no_file:      precision -> why edgedet writes no such file.
    skipped:      ends of names that have its suffix but are meant for another engine; ``run`` does not choose them.
    side_by_side: whether several copies of a model may run at the same time, each on a share of the threads.
    delegates:    whether ``open_model`` takes a third argument, a library that takes over what it can.
    public:       False for an engine that only tests use.
    """

    name: str
    title: str
    module: str
    suffixes: Tuple[str, ...]
    packages: Tuple[Package, ...] = ()
    hardware: str = "CPU"
    needs: Tuple[str, ...] = ()
    files: Dict[str, str] = field(default_factory=dict)
    no_file: Dict[str, str] = field(default_factory=dict)
    skipped: Tuple[str, ...] = ()
    side_by_side: bool = False
    delegates: bool = False
    public: bool = True

    def chooses(self, path: Path) -> bool:
        """Return whether ``run`` may choose this file for this engine where the user named no model."""
        return path.suffix.lower() in self.suffixes and not path.name.lower().endswith(self.skipped)

    def why_no_file(self, precision: str) -> Optional[str]:
        """Return why edgedet writes no file of a precision; None where it does."""
        if precision in self.files:
            return None
        return self.no_file.get(precision, f"edgedet writes no {precision} file for {self.title}")


# In the order in which files are listed and packages are recommended.
ENGINES: Tuple[EngineSpec, ...] = (
    EngineSpec(
        name="tflite",
        title="LiteRT",
        module="edgedet.engines.tflite",
        suffixes=(".tflite",),
        packages=(
            Package(  # LiteRT 2.1.0 is the first with wheels for Python 3.9
                "ai_edge_litert", "pip install ai-edge-litert", python=(3, 9), int8="yes, checked here; {cpu}"
            ),
            Package(
                "tflite_runtime",
                "pip install tflite-runtime 'numpy<2'",
                int8="yes, rounds differently from LiteRT; {cpu}",
                int8_x86="yes, rounds differently from LiteRT; slow on x86",
            ),
        ),
        files={"fp32": ".tflite", "int8": "_int8.tflite"},
        no_file={"fp16": "edgedet writes no FP16 file for LiteRT"},
        side_by_side=True,
        delegates=True,
    ),
    EngineSpec(
        name="ort",
        title="onnxruntime",
        module="edgedet.engines.ort",
        suffixes=(".onnx",),
        packages=(
            Package(
                "onnxruntime",
                "pip install onnxruntime",
                int8="no: INT8 ONNX files are for TensorRT, and slow here",
            ),
        ),
        files={"fp32": ".onnx"},
        no_file={
            "fp16": "edgedet writes no FP16 file for onnxruntime, whose CPU kernels compute in FP32",
            "int8": "INT8 ONNX files are TensorRT's; onnxruntime runs them in float arithmetic, slower than float "
            "files",
        },
        skipped=("_int8.onnx", "_int8_fp16.onnx"),
        side_by_side=True,
    ),
    EngineSpec(
        name="trt",
        title="TensorRT",
        module="edgedet.engines.tensorrt.engine",
        suffixes=(".engine", ".plan"),
        packages=(
            Package(
                "tensorrt",
                "JetPack brings it (apt install python3-libnvinfer), for a venv made with --system-site-packages",
                int8="where the GPU has it",
            ),
        ),
        hardware="GPU",
        needs=("cuda",),
        files={precision: f"_{precision}.engine" for precision in PRECISIONS},
    ),
    EngineSpec(
        name="fake",
        title="the fake",
        module="edgedet.engines.fake",
        suffixes=(".fake",),
        side_by_side=True,
        public=False,
    ),
)
PUBLIC_ENGINES = tuple(engine for engine in ENGINES if engine.public)


def engine_for(path: Union[str, Path]) -> Optional[EngineSpec]:
    """Return the engine that runs files with this suffix; None where no engine does."""
    suffix = Path(path).suffix.lower()
    return next((engine for engine in ENGINES if suffix in engine.suffixes), None)


def engine_named(name: str) -> EngineSpec:
    """Return the engine of this name; raises InputError that lists all engines where there is none."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    raise InputError(f"the engines are {', '.join(engine.name for engine in PUBLIC_ENGINES)}; got {name!r}.")


def model_suffixes() -> Tuple[str, ...]:
    """Return the suffixes of model files, in the order of the table."""
    return tuple(suffix for engine in PUBLIC_ENGINES for suffix in engine.suffixes)
