"""The figures of ``edgedet bench`` as text."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TextIO

from edgedet.benchmarks.latency.conditions import Conditions
from edgedet.benchmarks.latency.measure import PERCENTILES
from edgedet.benchmarks.latency.result import BenchResult, ModelResult
from edgedet.benchmarks.latency.sustain import draw_spark
from edgedet.benchmarks.models.family_files import short_name

NOT_AVAILABLE = "not available"
_SUMMARY = (
    f"{'':<34}{'threads':>8}{'network':>9}{'end to end, ms':>25}{'':>8}{'CPU':>8}{'':>8}{'':>7}\n"
    f"{'model':<34}{'':>8}{'p50 ms':>9}{'p50':>9}{'p90':>8}{'p99':>8}{'FPS':>8}{'ms':>8}{'GMAC/s':>8}{'AP':>7}"
)


def print_table(result: BenchResult, text: TextIO) -> None:
    """Print the machine, each model with its stages, a summary of several models, extra measurements, and warnings."""
    threads = ", ".join(map(str, result.threads))
    print(
        f"{result.device.device}, {result.device.cores} cores, load {result.device.load_1min or 0:.1f}; "
        f"threads {threads}, "
        f"warm-up {result.warmup}, {result.frames} frames in memory, score {result.score}",
        file=text,
    )
    for line in describe_conditions(result.conditions):
        print(line, file=text)
    for row in result.models:
        h, w = row.input_hw
        weights = f", weights {row.weights}" if row.weights else ""
        print(
            f"\n{row.model}: {row.name}, {h}x{w}, {row.precision}, {row.engine}, "
            f"threads {row.threads}{weights}\n"
            f"{row.n} runs, {row.fps:.1f} FPS, CPU {row.cpu_ms:.1f} ms a frame, "
            f"peak RSS {format_figure(row.peak_rss_mb, '.0f', ' MB')}, file {row.bytes / 1e6:.1f} MB, "
            f"{format_figure(row.macs and row.macs / 1e9, '.2f', ' GMAC')}, AP {format_figure(row.ap, '.4f')}",
            file=text,
        )
        print("stage       " + "".join(f"  p{p:<2} ms  " for p in PERCENTILES).rstrip(), file=text)
        for stage, values in row.ms.items():
            print(f"{stage:<12}" + "  ".join(f"{value:>7.2f}" for value in values.values()), file=text)
    if len(result.models) > 1:
        print(f"\n{_SUMMARY}", file=text)
        for row in result.models:
            print(_format_summary(row), file=text)
    _print_profiles(result, text)
    _print_sustained(result, text)
    for warning in result.conditions.warnings:
        print(f"\nwarning: {warning}", file=text)


def describe_conditions(conditions: Conditions) -> list[str]:
    """Return clocks, heat, power and who else used the CPU, as far as the machine tells."""
    readings = (conditions.clocks_mhz.before, conditions.clocks_mhz.after)
    clocks = [format_figure(max(clocks_mhz, default=None), ".0f") for clocks_mhz in readings]
    sensors = (conditions.temperatures_c.before, conditions.temperatures_c.after)
    heat = [format_figure(max(celsius.values(), default=None), ".0f") for celsius in sensors]
    load = f"{format_figure(conditions.others_cores, '.2f')} cores busy with other programs"
    steal = "" if conditions.steal_share is None else f", {100 * conditions.steal_share:.1f} % stolen"
    return [
        f"clock MHz before {clocks[0]}, after {clocks[1]}; "
        f"governor {', '.join(conditions.governors) or NOT_AVAILABLE}; "
        f"power mode {conditions.power_mode or NOT_AVAILABLE}; power {format_figure(conditions.power_w, '.1f', ' W')}",
        f"hottest sensor, C, before {heat[0]}, after {heat[1]}; {load}{steal}; commit {conditions.commit or '-'}",
    ]


def name_row(row: ModelResult) -> str:
    """Return a short name: "D0 fp32 onnx" for the family, else the file's name."""
    if row.phi is None:
        return Path(row.model).name
    return f"{short_name(row.phi)} {row.precision} {Path(row.model).suffix.lstrip('.')}"


def format_figure(value: float | None, form: str, unit: str = "") -> str:
    """Return a figure with its unit, or "not available"."""
    return NOT_AVAILABLE if value is None else f"{value:{form}}{unit}"


def _print_profiles(result: BenchResult, text: TextIO) -> None:
    for row in result.models:
        if row.profile is None:
            continue
        print(f"\nprofile of {row.model}\n{textwrap.fill(row.profile.note, 100)}", file=text)
        for title, costs in (("operators", row.profile.by_class), ("part", row.profile.by_part)):
            if costs:
                print(
                    f"{title:<32}{'ms':>8}{'share':>7}{'GMAC':>8}{'MB':>8}{'roofline ms':>13}{'of roofline':>13}",
                    file=text,
                )
            for cost in costs:
                print(
                    f"{cost.name[-31:]:<32}{cost.ms:>8.2f}{cost.share:>7.0%}{_format_short(cost.gmacs, '.3f'):>8}"
                    f"{_format_short(cost.mb, '.1f'):>8}{_format_short(cost.roofline_ms, '.2f'):>13}"
                    f"{_format_short(cost.of_roofline, '.0%'):>13}",
                    file=text,
                )


def _print_sustained(result: BenchResult, text: TextIO) -> None:
    """Print how FPS went over the long runs."""
    for row in result.models:
        if row.sustain is None or not row.sustain.windows:
            continue
        windows, kept = row.sustain.windows, row.sustain.kept
        rates = [window.fps for window in windows]
        heat = [window.celsius for window in windows if window.celsius is not None]
        print(
            f"\n{row.model}, {windows[-1].t_s:.0f} s without a pause\n"
            f"FPS  {rates[0]:.1f} at first, {rates[-1]:.1f} at last, {min(rates):.1f} to {max(rates):.1f}"
            f"{'' if kept is None else f'; the last tenth is at {100 * kept:.0f} % of the first'}\n"
            f"     |{draw_spark(rates)}|\n"
            f"heat {f'{heat[0]:.0f} C at first, {max(heat):.0f} C at most' if heat else NOT_AVAILABLE}",
            file=text,
        )


def _format_summary(row: ModelResult) -> str:
    stages = row.ms
    whole = "".join(
        f"{value:>{9 if index == 0 else 8}.1f}" for index, value in enumerate(stages["end to end"].values())
    )
    return (
        f"{name_row(row)[-33:]:<34}{row.threads:>8}{stages['network']['p50']:>9.1f}{whole}{row.fps:>8.1f}"
        f"{row.cpu_ms:>8.1f}{_format_short(row.gmacs_per_s, '.1f'):>8}{_format_short(row.ap, '.3f'):>7}"
    )


def _format_short(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
