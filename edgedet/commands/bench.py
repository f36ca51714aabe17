"""``edgedet bench``: measure latencies, print their table, and write the page and the JSON."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from ..benchmarks.latency.bench import run_bench
from ..benchmarks.latency.options import BenchOptions, parse_numbers
from ..benchmarks.latency.result import json_from_result
from ..benchmarks.latency.sustain import parse_seconds
from ..benchmarks.latency.table import print_table
from ..benchmarks.models.family_files import FamilyFile, list_files
from ..engines.base import check_threads, default_threads
from ..engines.table import PRECISIONS, PUBLIC_ENGINES
from ..errors import InputError, PartialFailure, require
from ..postprocess import logit_of
from ..progress import count_of
from ..schemas import write_figures
from .options import add_labelled_data, add_score, check_at_least, text_stream

DESCRIPTION = (
    "Measure the latency of the family's models or of model files, one run of each in turn; ends with one line of JSON."
)
DEFAULT_PRECISION, DEFAULT_ENGINE, DEFAULT_SEED = "fp32", "ort", 0
# Options that change nothing without another one: (option, what it goes with)
ALONE_IGNORED = (
    ("weights", "phi"),
    ("precision", "phi"),
    ("engine", "phi"),
    ("seed", "phi"),
    ("calib", "weights"),
    ("images", "data"),
)
EXAMPLE = """  edgedet bench --phi 0-2 --precision fp32,int8 --engine ort,tflite --threads 1,2
  edgedet bench --model edgedet-out/my.onnx --html bench.html
  edgedet bench --model a.onnx b.onnx --source photo.jpg --threads 1 --json bench.json
  edgedet bench --model my_int8.tflite --sustain 30m
  edgedet bench --model my_int8.tflite --host pi@board1 nano2 --html boards.html
  edgedet bench --model my_int8.onnx --host orin1 orin2 --build
  edgedet bench compare before.json after.json"""
INPUTS = ("model", "weights", "calib", "source", "data", "hosts")
OUTPUTS = ("html", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``edgedet bench``."""
    parser.add_argument(
        "compare", nargs="*", metavar="compare A.json B.json", help="compare two earlier runs instead of measuring"
    )
    parser.add_argument("--model", nargs="+", metavar="FILE", help="model files, measured in turns")
    family = parser.add_argument_group("models of the family, exported and cached")
    family.add_argument(
        "--phi", metavar="N,M-L", help="sizes of the model: 0 for D0 to 7 for D7, 8 for D7x; numbers and ranges"
    )
    family.add_argument(
        "--precision", metavar="A,B", help=f"one or several of {', '.join(PRECISIONS)} (default: {DEFAULT_PRECISION})"
    )
    family.add_argument(
        "--engine",
        metavar="A,B",
        help=f"one or several of {', '.join(engine.name for engine in PUBLIC_ENGINES)} (default: {DEFAULT_ENGINE})",
    )
    family.add_argument(
        "--weights",
        metavar="FILE",
        help="checkpoint, or 'demo' (default: random weights, whose detections mean nothing)",
    )
    family.add_argument("--seed", type=int, help=f"seed of random weights (default: {DEFAULT_SEED})")
    family.add_argument("--calib", metavar="SRC", help="frames for INT8 with --weights, as `edgedet export` takes them")
    parser.add_argument("--source", metavar="X", help="image, folder or video (default: the demo's clip)")
    parser.add_argument(
        "--runs", type=int, default=50, help="least number of runs of each model (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of measuring (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=5, help="runs before the measured ones (default: %(default)s)")
    parser.add_argument(
        "--threads", default=str(default_threads()), metavar="N,M", help="CPU threads (default: %(default)s)"
    )
    add_score(parser)
    add_labelled_data(parser, "labels for AP")
    parser.add_argument(
        "--sustain", metavar="TIME", help="then run each model for 45s, 30m or 1h: FPS and temperature over time"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="then show the time of each kind of layer beside the least time that it can take",
    )
    remote = parser.add_argument_group("other machines, over SSH (docs/boards.md)")
    remote.add_argument(
        "--host",
        nargs="+",
        metavar="HOST",
        help="measure there instead of here, all at once: what `ssh` takes, or names and groups of hosts.yaml",
    )
    remote.add_argument(
        "--model-there",
        nargs="+",
        metavar="FILE",
        help="model files that lie there already, as ~/my_int8.engine, which `edgedet build` wrote on that board",
    )
    remote.add_argument(
        "--build",
        action="store_true",
        help="first build a TensorRT engine of each .onnx file on each machine, as `edgedet build` does, and measure "
        "that engine, which stays there",
    )
    remote.add_argument(
        "--hosts", type=Path, metavar="FILE", help="names and groups of machines (default: hosts.yaml, if there is one)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write one page with plots")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the JSON line to FILE; without FILE, print it alone"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table and the JSON line, and return 0.

    Raises PartialFailure where some models or frames failed or Ctrl-C came, and the reason where no model could be
    measured.
    """
    if args.compare:
        return _compare(args)
    if args.host is not None:
        return _bench_hosts(args)
    options = _options(args)
    for line in options.left_out:
        print(f"edgedet: left out: {line}", file=sys.stderr)
    result = run_bench(options)
    text = text_stream(args.json)
    print_table(result, text)
    if args.html is not None:
        from ..benchmarks.latency.page import write_page

        write_page(result, args.html)
        print(f"wrote {args.html}", file=text)
    write_figures("bench", args.json or "-", json_from_result(result))  # without --json it follows the table
    failures = result.failures
    if failures:
        raise PartialFailure(
            f"{count_of(len(result.models), 'model')} could be measured, with {count_of(len(failures), 'failure')}: "
            f"{'; '.join(failures)}."
        )
    return 0


def _bench_hosts(args: argparse.Namespace) -> int:
    from ..benchmarks.hosts.bench_hosts import bench_hosts, json_from_hosts
    from ..benchmarks.hosts.host_list import read_hosts
    from ..benchmarks.hosts.report import print_hosts, write_hosts_page
    from ..benchmarks.hosts.session import Plan
    from ..benchmarks.hosts.ssh import INTERRUPTED
    from ..benchmarks.models.family_files import prepare_file

    if args.data is not None:
        raise InputError("--host takes no --data: the AP of a file is the same on every machine, so measure it here.")
    if args.source is not None and not Path(args.source).is_file():
        raise InputError(f"--source {args.source} goes to other machines only as one image or one video.")
    options = _options(args)
    hosts = read_hosts(args.host, args.hosts)
    for line in options.left_out:
        print(f"edgedet: left out: {line}", file=sys.stderr)
    family = [prepare_file(member, default_threads()) for member in options.family]
    passed = ["--runs", str(args.runs), "--seconds", str(args.seconds), "--warmup", str(args.warmup)]
    passed += ["--threads", ",".join(map(str, options.threads)), "--score", str(args.score)]
    passed += [] if args.sustain is None else ["--sustain", args.sustain]
    passed += ["--profile"] if args.profile else []
    models = (*map(Path, options.models), *family)
    to_build = tuple(model for model in models if args.build and model.suffix.lower() == ".onnx")
    if args.build and not to_build:
        raise InputError("--build makes engines of .onnx files, and --model names none.")
    plan = Plan(
        models=tuple(model for model in models if model not in to_build),
        there=tuple(args.model_there or ()),
        options=tuple(passed),
        source=None if args.source is None else Path(args.source),
        to_build=to_build,
    )
    results = bench_hosts(hosts, plan, lambda line: print(f"edgedet: {line}", file=sys.stderr, flush=True))
    text = text_stream(args.json)
    print_hosts(results, text)
    if args.html is not None:
        write_hosts_page(results, args.html)
        print(f"wrote {args.html}", file=text)
    write_figures("bench hosts", args.json or "-", json_from_hosts(results))
    failures = [f"{item.host}: {item.failure}" for item in results if item.failure is not None]
    if len(failures) == len(results):
        if any(item.failure == INTERRUPTED for item in results):
            raise KeyboardInterrupt
        raise InputError(f"no machine could measure a model: {'; '.join(failures)}.")
    if failures:
        raise PartialFailure(f"{len(failures)} of {len(results)} machines failed: {'; '.join(failures)}.")
    failures = [f"{item.host}: {line}" for item in results if item.result for line in item.result.failures]
    if failures:
        raise PartialFailure(f"every machine answered, but some models or frames failed: {'; '.join(failures)}.")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from ..benchmarks.latency.compare import compare_files

    measuring = {name for pair in ALONE_IGNORED for name in pair}
    for option in ("model", "source", *sorted(measuring), "sustain", "html", "host"):
        if getattr(args, option) is not None:
            raise InputError(f"compare measures nothing, so it takes no --{option}.")
    words = args.compare
    if words[0] != "compare" or len(words) != 3:
        raise InputError(f"expected `edgedet bench compare A.json B.json`; got {' '.join(words)!r} before the options.")
    comparison = compare_files(Path(words[1]), Path(words[2]), text_stream(args.json))
    write_figures("bench compare", args.json, asdict(comparison))
    return 0


def _options(args: argparse.Namespace) -> BenchOptions:
    """Check the options and read the labels, before anything is measured; raises InputError or MissingDependency."""
    for option, needed in ALONE_IGNORED:
        if getattr(args, option) is not None and getattr(args, needed) is None:
            raise InputError(f"--{option} goes with --{needed}: add it, or leave the option out.")
    if args.seed is not None and args.weights is not None:
        raise InputError("--seed chooses random weights, but --weights names a file: leave one of them out.")
    if args.calib is not None and "int8" not in _names(args.precision or DEFAULT_PRECISION):
        raise InputError("--calib is for INT8: name int8 in --precision.")
    for option in ("model_there", "hosts", "build"):
        if getattr(args, option) and args.host is None:
            raise InputError(f"--{option.replace('_', '-')} goes with --host: add it, or leave the option out.")
    if not args.model and not args.model_there and args.phi is None:
        raise InputError("nothing to measure: name one or more files after --model, or --phi 0-2 for the family.")
    check_at_least("--runs", args.runs, 1)
    if args.warmup < 0:
        raise InputError(f"--warmup wants a number from 0 up; got {args.warmup}.")
    if not 0 <= args.seconds < float("inf"):
        raise InputError(f"--seconds wants a number from 0 up; got {args.seconds}.")
    logit_of(args.score)
    threads = tuple(parse_numbers("--threads", args.threads))
    for count in threads:
        check_at_least("--threads", count, 1)
        check_threads(count)
    sustain_s = None if args.sustain is None else parse_seconds(args.sustain)
    family, left_out = _family(args)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our line on a damaged frame is enough; read at cv2's import
    require("cv2", "edgedet bench").setNumThreads(max(threads))
    if args.html is not None:
        require("matplotlib", "edgedet bench --html")
    if args.data is not None:
        for module in ("pycocotools", "tqdm"):
            require(module, "edgedet bench --data")
    from ..judge.labels import read_dataset

    return BenchOptions(
        models=tuple(args.model or ()),
        family=tuple(family),
        left_out=tuple(left_out),
        threads=threads,
        source=args.source,
        runs=args.runs,
        seconds=args.seconds,
        warmup=args.warmup,
        score=args.score,
        dataset=None if args.data is None else read_dataset(args.data, args.images),
        sustain_s=sustain_s,
        profile=args.profile,
    )


def _family(args: argparse.Namespace) -> tuple[list[FamilyFile], list[str]]:
    """Return the files of the family that are asked for, and one line for each pair without a file."""
    if args.phi is None:
        return [], []
    phis = parse_numbers("--phi", args.phi)
    if args.weights is not None and len(phis) > 1:
        raise InputError(f"--weights is of one model, but --phi names {len(phis)}: name one.")
    if args.weights not in (None, "demo") and not Path(args.weights).is_file():
        raise InputError(f"there is no checkpoint {args.weights}: name a file, or demo.")
    return list_files(
        phis,
        _names(args.precision or DEFAULT_PRECISION),
        _names(args.engine or DEFAULT_ENGINE),
        weights=args.weights,
        seed=DEFAULT_SEED if args.seed is None else args.seed,
        calib=args.calib,
    )


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))
