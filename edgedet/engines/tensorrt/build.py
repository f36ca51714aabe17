"""Build a TensorRT plan from an ONNX file, on the machine that will run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ...errors import ArtifactError, DeviceError, EdgeDetError, InputError, UnsupportedError
from ...files import atomic_path, cache_folder
from ..finished import gives_boxes
from ..onnx_file import OnnxFile, read_onnx
from .board import Board
from .int8_layers import convert_to_dense, convert_to_int8, read_magnitudes
from .layer_precision import convert_to_float, convert_to_half

WORKSPACE_SHARE = 0.5  # of the free memory; the rest is for weights, and for a system that shares it on a Jetson
WORKSPACE_BYTES = (64 << 20, 2 << 30)  # least and most; D7's largest layer asks for less than the most
LOW_MEMORY_BYTES = 256 << 20
LOW_MEMORY_EFFORT = 2  # of 0 to 5, TensorRT's default is 3: fewer kernels are tried, each with its buffers
PRECISIONS = ("int8", "fp16", "fp32")


@dataclass(frozen=True)
class Recipe:
    """How one engine is built.

    name:      the recipe's name in tables.
    onnx:      the file.
    precision: "int8" as in the file, "fp16" or "fp32".
    to_float:  parts of the network (``layer_precision.PARTS``) that go back from INT8 to float.
    ranges:    path of a calibration table, by which all float convolutions but those of squeeze-excite become INT8;
               "": they stay float.
    dense:     each pair of depthwise and pointwise convolution in BiFPN and heads becomes one INT8 convolution.
    """

    name: str
    onnx: str
    precision: str
    to_float: Tuple[str, ...] = ()
    ranges: str = ""
    dense: bool = False


@dataclass(frozen=True)
class BuildOptions:
    """The limits of a build.

    workspace_bytes: largest scratch memory of a layer.
    low_memory:      try fewer kernels and leave out the libraries cuDNN and cuBLAS, which hold hundreds of megabytes.
    timing_cache:    file with the measured times of kernels, for all builds on this board; None: measure again.
    """

    workspace_bytes: int
    low_memory: bool = False
    timing_cache: Optional[str] = None


def choose_options(board: Board, workspace_mb: Optional[int] = None, low_memory: bool = False) -> BuildOptions:
    """Return options that suit the board: a share of its free memory, and little on small boards."""
    low_memory = low_memory or board.small
    least, most = WORKSPACE_BYTES
    workspace = int(min(max(board.free_bytes * WORKSPACE_SHARE, least), LOW_MEMORY_BYTES if low_memory else most))
    identity = board.identity
    name = f"trt-{identity.tensorrt}-{identity.gpu}-{identity.compute_capability}.timing".replace(" ", "_")
    return BuildOptions(workspace_mb << 20 if workspace_mb else workspace, low_memory, str(cache_folder() / name))


def takes_typed_only(trt: Any) -> bool:
    """Return whether this TensorRT takes precisions only from the file, as version 11 does."""
    return not hasattr(trt.BuilderFlag, "INT8")


def choose_file(trt: Any, path: Path) -> OnnxFile:
    """Choose the file of a model that this TensorRT can build: NAME.onnx, or NAME_fp16.onnx beside it.

    Raises UnsupportedError where only the other one exists, or the graph ends in boxes.
    """
    onnx = read_onnx(path)
    if gives_boxes(onnx.meta):
        raise UnsupportedError(
            f"{path} ends in boxes, for other programs; edgedet's engines end in raw outputs: build the model's own "
            ".onnx file, which lies beside the folder."
        )
    if onnx.typed and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise UnsupportedError(
            f"{path} has FP16 scales (opset {onnx.opset}), which TensorRT {trt.__version__} does not read: name the "
            f"file without _fp16."
        )
    if onnx.typed or not takes_typed_only(trt) or onnx.meta.precision != "int8":
        return onnx
    other = path.with_name(f"{path.stem}_fp16.onnx")
    if not other.is_file():
        raise UnsupportedError(
            f"TensorRT {trt.__version__} takes precisions from the file alone, so it needs {other.name} beside "
            f"{path}: `edgedet export --int8` writes both, copy it too."
        )
    return read_onnx(other)


def build_plan(
    trt: Any, recipe: Recipe, options: BuildOptions, progress: Callable[[str, int, int], None]
) -> Tuple[bytes, int]:
    """Build in this process; return the plan and the number of layers of the network.

    progress: called with (phase, steps done, steps) from any thread, where TensorRT reports its progress.
    Raises UnsupportedError, ArtifactError or DeviceError in one line with TensorRT's own reason.
    """
    onnx = choose_file(trt, Path(recipe.onnx))
    log = make_logger(trt)
    builder = trt.Builder(log)
    typed = onnx.typed or takes_typed_only(trt)
    _check(recipe, onnx)
    network = builder.create_network(_network_flags(trt, typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx.path.read_bytes()):
        reasons = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ArtifactError(f"TensorRT {trt.__version__} cannot read {onnx.path}: {reasons or log.reason()}.")
    all_float = recipe.precision == "fp16" and onnx.meta.precision == "int8"
    moved, alive = convert_to_float(trt, network, ("everything",) if all_float else recipe.to_float)
    if recipe.ranges:
        moved, alive = convert_to_int8(
            trt, network, read_magnitudes(Path(recipe.ranges), onnx.meta.source_sha256), typed
        )
        if not moved:
            raise UnsupportedError(f"{onnx.path.name} has every layer in INT8 already")
    if recipe.dense:
        pairs, more = convert_to_dense(trt, network, typed)
        alive += more
        if not pairs:
            raise UnsupportedError(
                f"{onnx.path.name} has no pair of INT8 convolutions that could become one: export it again"
            )
    if typed and recipe.precision == "fp16" and not onnx.typed:
        alive += convert_to_half(trt, network)
    if recipe.to_float and not moved:
        raise UnsupportedError(f"{onnx.path.name} has {' and '.join(recipe.to_float)} in float already")
    config = builder.create_builder_config()
    _configure(trt, config, recipe, options, typed, onnx.meta.precision == "int8")
    _add_profiles(builder, network, config, onnx.meta.max_batch)
    cache = _set_timing_cache(config, options.timing_cache)
    monitor = _make_monitor(trt, progress)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    del alive  # TensorRT reads the weights until the build has ended
    if plan is None:
        raise _explain_failure(log.reason(), recipe)
    if cache is not None and options.timing_cache is not None:
        with atomic_path(options.timing_cache) as temporary:
            temporary.write_bytes(bytes(cache.serialize()))
    return bytes(plan), int(network.num_layers)


def _check(recipe: Recipe, onnx: OnnxFile) -> None:
    if recipe.precision == "int8" and onnx.meta.precision != "int8":
        raise InputError(f"{onnx.path} is a float model: `edgedet export --int8` writes the INT8 one.")
    if recipe.precision == "fp32" and onnx.meta.precision == "int8":
        raise InputError(f"{onnx.path} is an INT8 model; --fp32 wants the float one, NAME.onnx.")


def _network_flags(trt: Any, typed: bool) -> int:
    kinds = trt.NetworkDefinitionCreationFlag
    if typed:
        return 1 << int(kinds.STRONGLY_TYPED)
    return 1 << int(kinds.EXPLICIT_BATCH) if hasattr(kinds, "EXPLICIT_BATCH") else 0


def _configure(trt: Any, config: Any, recipe: Recipe, options: BuildOptions, typed: bool, has_quantisers: bool) -> None:
    """Set flags and limits.

    has_quantisers: whether the network has Q/DQ layers, used or not. The builder then needs the INT8 flag, even where
                    everything runs in FP16 (NVIDIA/TensorRT#4021).
    """
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if not typed:
        if recipe.precision in ("int8", "fp16"):
            config.set_flag(trt.BuilderFlag.FP16)
        if has_quantisers:
            config.set_flag(trt.BuilderFlag.INT8)
        if recipe.precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)  # on by default; it keeps 10 bits of the mantissa only
    if options.low_memory:
        if hasattr(config, "builder_optimization_level"):  # since 8.6
            config.builder_optimization_level = LOW_MEMORY_EFFORT
        sources = [
            getattr(trt.TacticSource, name)
            for name in ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
            if hasattr(trt.TacticSource, name)
        ]
        config.set_tactic_sources(sum(1 << int(source) for source in sources))


def _add_profiles(builder: Any, network: Any, config: Any, max_batch: int) -> None:
    """Give each number of pictures, n, a profile of its own, n - 1, so that its kernels are chosen for it."""
    if max_batch == 1:
        return
    pixels = network.get_input(0)
    for count in range(1, max_batch + 1):
        profile = builder.create_optimization_profile()
        shape = (count, *tuple(pixels.shape)[1:])
        profile.set_shape(pixels.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _set_timing_cache(config: Any, path: Optional[str]) -> Any:
    """Give the configuration the measurements of earlier builds; return the cache, to which this build adds its own."""
    if path is None:
        return None
    measured = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(measured)
    if cache is None or not config.set_timing_cache(cache, False):  # damaged, or of another TensorRT: start anew
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _explain_failure(reason: str, recipe: Recipe) -> EdgeDetError:
    if _is_about_memory(reason):
        return DeviceError(f"no memory to build {recipe.name}: {reason}. {MEMORY_ADVICE}")
    return UnsupportedError(f"TensorRT could not build {recipe.name}: {reason}.")


MEMORY_ADVICE = "Close the desktop (sudo init 3), add swap, or build with --low-memory."


def _is_about_memory(reason: str) -> bool:
    text = reason.lower().replace("_", " ")
    return any(words in text for words in ("out of memory", "outofmemory", "insufficient memory", "memory allocation"))


def make_logger(trt: Any) -> Any:
    """Return a TensorRT logger that keeps errors; its ``reason()`` is the one that a message should show."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps errors for a message of one line; TensorRT would print dozens of lines."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: List[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip().splitlines()[0])

        def reason(self) -> str:
            memory = [message for message in self.errors if _is_about_memory(message)]
            return (memory or self.errors or ["TensorRT gave no reason"])[-1].rstrip(".")

    return Log()


def _make_monitor(trt: Any, progress: Callable[[str, int, int], None]) -> Any:
    """Return TensorRT's progress monitor (in Python since 10), or None."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports the outermost phase; the others are nested in it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: Dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                progress(phase_name, step + 1, self.steps[phase_name])
            return True  # False would cancel; Ctrl-C ends the process instead, in every version

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
