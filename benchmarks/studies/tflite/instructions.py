"""Count the instructions that an ARM core executes for one inference, in an emulator: exact, whatever else runs.

    scripts/make_aarch64_env.sh DIR --count
    python -m edgedet.benchmarks.studies.tflite.instructions --env DIR --model A.tflite B.tflite --by-op

A count is not a time: a board waits for memory, and its cores start several instructions at once. But it compares files
that do the same work exactly, where times on a busy machine vary.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgedet.benchmarks.studies.tflite.parts import Part, parts_of
from edgedet.errors import InputError, UnsupportedError
from edgedet.files import sha256_of, write_json

CPUS = ("cortex-a72", "cortex-a76")  # Raspberry Pi 4; Raspberry Pi 5, with dot product instructions
WARM_UPS = 2  # the first inference prepares buffers that later ones use again

# Each inference runs between two calls of getppid(). The input is random: convolutions cost the same for any input.
GUEST = """
import os, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
warm_ups, *paths = sys.argv[1:]
os.getppid(), os.getppid()
for path in paths:
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    random = np.random.RandomState(0)
    for x in interpreter.get_input_details():
        values = random.randint(-128, 128, x["shape"])
        interpreter.set_tensor(x["index"], values.astype(x["dtype"]))
    for _ in range(int(warm_ups)):
        interpreter.invoke()
    os.getppid()
    interpreter.invoke()
    os.getppid()
    del interpreter
"""


@dataclass(frozen=True)
class KindCost:
    """The cost of all parts of one kind together, each measured as a model of its own.

    operators: number of the file's operators that these parts contain.
    """

    kind: str
    operators: int
    instructions: int


@dataclass(frozen=True)
class Count:
    """The cost of one inference of one file on one kind of core.

    instructions:  of the whole inference.
    kinds:         by operator, the most expensive first; () without --by-op.
    convolutions:  instructions of the convolutions; None without --by-op.
    """

    model: str
    sha256: str
    cpu: str
    instructions: int
    kinds: tuple[KindCost, ...] = ()
    convolutions: int | None = None

    @property
    def outside(self) -> int | None:
        """Instructions outside convolutions."""
        return None if self.convolutions is None else self.instructions - self.convolutions


def count_instructions(env: Path, cpu: str, paths: Sequence[Path]) -> list[int]:
    """Return the instructions of one inference of each .tflite file.

    env: folder of ``make_aarch64_env.sh DIR --count``. Raises InputError where it is none, UnsupportedError where the
    emulated program fails.
    """
    return count_program(env, cpu, GUEST, [str(WARM_UPS), *map(str, paths)], len(paths))


def count_program(env: Path, cpu: str, program: str, arguments: Sequence[str], sections: int) -> list[int]:
    """Return the instructions of each section of a Python program.

    program: calls getppid() twice in a row, and then before and after each of its ``sections``.
    Other arguments and errors as of ``count_instructions``.
    """
    emulator, plugin = env / "qemu-counting", env / "count_instructions.so"
    if not (emulator.is_file() and plugin.is_file()):
        raise InputError(f"{env} has no counting emulator: scripts/make_aarch64_env.sh {env} --count makes it.")
    # A fixed environment: its length moves the guest's stack, whose alignment changes the number of instructions.
    # Python hashes strings by a seed of its own in each process, which changes how many places of a table it looks at.
    environment = {
        "PYTHONHASHSEED": "0",
        "CPU": cpu,
        "QEMU": str(emulator),
        "QEMU_OPTIONS": f"-plugin {plugin}",
        "PATH": os.defpath,
    }
    fixed_addresses = [shutil.which("setarch") or "setarch", "-R"]
    command = [*fixed_addresses, str(env / "python"), "-c", program, *arguments]
    done = subprocess.run(command, env=environment, cwd=env, capture_output=True, text=True, check=False)
    marks = [int(mark) for mark in re.findall(r"^instructions (\d+)$", done.stderr, re.MULTILINE)]
    if done.returncode or len(marks) != 2 * (sections + 1):
        messages = [line for line in done.stderr.splitlines() if not line.startswith(("instructions ", "INFO"))]
        reason = (messages or ["no reason given"])[-1]
        raise UnsupportedError(f"the emulated program failed ({done.returncode}): {reason}")
    empty, *measured = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
    return [count - empty for count in measured]


def count_model(env: Path, cpu: str, path: Path, by_op: bool) -> Count:
    """Return the cost of one inference of a .tflite file on ``cpu``; with ``by_op`` also operator by operator."""
    (total,) = count_instructions(env, cpu, [path.resolve()])
    count = Count(str(path), sha256_of(path), cpu, total)
    return add_kinds(count, env, path) if by_op else count


def add_kinds(count: Count, env: Path, path: Path) -> Count:
    """Add the cost of each kind of part; parts of equal shapes are measured once."""
    parts = list(parts_of(path))
    different = {part.key: part for part in parts}
    with tempfile.TemporaryDirectory(prefix="edgedet-parts-") as folder:
        paths = []
        for number, part in enumerate(different.values()):
            paths.append(Path(folder) / f"{number}.tflite")
            paths[-1].write_bytes(part.flatbuffer)
        cost = dict(zip(different, count_instructions(env, count.cpu, paths), strict=True))
    kinds: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        kinds[part.kind].append(part)
    rows = [
        KindCost(kind, sum(part.operators for part in same), sum(cost[part.key] for part in same))
        for kind, same in kinds.items()
    ]
    rows.sort(key=lambda row: -row.instructions)
    convolutions = sum(cost[part.key] for part in parts if part.is_convolution)
    return replace(count, kinds=tuple(rows), convolutions=convolutions)


def format_table(counts: Iterable[Count]) -> str:
    """Return the counts as lines of text, and their ratio to the first file's on the same core."""
    lines: list[str] = []
    first: dict[str, Count] = {}
    for count in counts:
        base = first.setdefault(count.cpu, count)
        line = f"{count.cpu}  {count.instructions / 1e6:9.3f} M  {count.instructions / base.instructions:5.3f}"
        if count.outside is not None and base.outside is not None:
            line += f"  outside convolutions {count.outside / 1e6:8.3f} M  {count.outside / base.outside:5.3f}"
        lines.append(f"{line}  {count.model}")
        for row in count.kinds:
            lines.append(f"    {row.kind:<26} {row.operators:>4}  {row.instructions / 1e6:9.3f} M")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True, help="folder of make_aarch64_env.sh DIR --count")
    parser.add_argument("--model", type=Path, nargs="+", required=True, help=".tflite files; ratios are to the first")
    parser.add_argument("--cpu", nargs="+", choices=CPUS, default=CPUS, help="kinds of core (default: both)")
    parser.add_argument("--by-op", action="store_true", help="also each kind of operator, as models of one operator")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the JSON line to FILE, or alone")
    args = parser.parse_args(argv)
    counts = [count_model(args.env.resolve(), cpu, path, args.by_op) for cpu in args.cpu for path in args.model]
    if args.json != "-":
        print("Instructions of one inference, one thread, emulated. Not a board's time.")
        print(format_table(counts))
    write_json(args.json or "-", {"counts": [asdict(count) for count in counts]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
