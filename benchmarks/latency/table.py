"""The figures of ``edgedet bench`` as text. Knows the JSON's entries; measures nothing."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, TextIO

from edgedet.benchmarks.latency.measure import PERCENTILES
from edgedet.benchmarks.latency.sustain import spark
from edgedet.specs import PHI

NOT_AVAILABLE = "not available"
_SUMMARY = (
    f"{'':<34}{'threads':>8}{'network':>9}{'end to end, ms':>25}{'':>8}{'CPU':>8}{'':>8}{'':>7}\n"
    f"{'model':<34}{'':>8}{'p50 ms':>9}{'p50':>9}{'p90':>8}{'p99':>8}{'FPS':>8}{'ms':>8}{'GMAC/s':>8}{'AP':>7}"
)


def print_table(result: dict[str, Any], text: TextIO) -> None:
    """Print the machine, each model with its stages, a summary of several models, what was asked for besides, and what
    to doubt."""
    threads = ", ".join(map(str, result["threads"]))
    print(
        f"{result['device']}, {result['cores']} cores, load {result['load_1min'] or 0:.1f}; threads {threads}, "
        f"warm-up {result['warmup']}, {result['frames']} frames in memory, score {result['score']}",
        file=text,
    )
    for line in conditions_lines(result):
        print(line, file=text)
    for row in result["models"]:
        h, w = row["input_hw"]
        weights = f", weights {row['weights']}" if row["weights"] else ""
        print(
            f"\n{row['model']}: {row['name']}, {h}x{w}, {row['precision']}, {row['engine']}, "
            f"threads {row['threads']}{weights}\n"
            f"{row['n']} runs, {row['fps']:.1f} FPS, CPU {row['cpu_ms']:.1f} ms a frame, "
            f"peak RSS {shown(row['peak_rss_mb'], '.0f', ' MB')}, file {row['bytes'] / 1e6:.1f} MB, "
            f"{shown(row['macs'] and row['macs'] / 1e9, '.2f', ' GMAC')}, AP {shown(row['ap'], '.4f')}",
            file=text,
        )
        print("stage       " + "".join(f"  p{p:<2} ms  " for p in PERCENTILES).rstrip(), file=text)
        for stage, values in row["ms"].items():
            print(f"{stage:<12}" + "  ".join(f"{value:>7.2f}" for value in values.values()), file=text)
    if len(result["models"]) > 1:
        print(f"\n{_SUMMARY}", file=text)
        for row in result["models"]:
            print(_summary(row), file=text)
    _print_profiles(result, text)
    _print_sustained(result, text)
    for warning in result["conditions"]["warnings"]:
        print(f"\nwarning: {warning}", file=text)


def conditions_lines(result: dict[str, Any]) -> list[str]:
    """Return clocks, heat, power and who else used the CPU, as far as the machine tells."""
    found = result["conditions"]
    clocks = [shown(max(found["clocks_mhz"][when], default=None), ".0f") for when in ("before", "after")]
    heat = [shown(max(found["temperatures_c"][when].values(), default=None), ".0f") for when in ("before", "after")]
    load = f"{shown(found['others_cores'], '.2f')} cores busy with other programs"
    steal = "" if found["steal_share"] is None else f", {100 * found['steal_share']:.1f} % stolen"
    return [
        f"clock MHz before {clocks[0]}, after {clocks[1]}; governor {', '.join(found['governors']) or NOT_AVAILABLE}; "
        f"power mode {found['power_mode'] or NOT_AVAILABLE}; power {shown(found['power_w'], '.1f', ' W')}",
        f"hottest sensor, C, before {heat[0]}, after {heat[1]}; {load}{steal}; commit {found['commit'] or '-'}",
    ]


def row_name(row: dict[str, Any]) -> str:
    """Return a short name: "D0 fp32 onnx" for the family, else the file's name."""
    if row["phi"] is None:
        return Path(row["model"]).name
    size = PHI[row["phi"]].rpartition("_")[2].upper().replace("X", "x")
    return f"{size} {row['precision']} {Path(row['model']).suffix.lstrip('.')}"


def shown(value: float | None, form: str, unit: str = "") -> str:
    """Return a figure with its unit, or "not available"."""
    return NOT_AVAILABLE if value is None else f"{value:{form}}{unit}"


def _print_profiles(result: dict[str, Any], text: TextIO) -> None:
    for row in result["models"]:
        profile = row.get("profile")
        if not profile:
            continue
        print(f"\nprofile of {row['model']}\n{textwrap.fill(profile['note'], 100)}", file=text)
        for title, key in (("operators", "by_class"), ("part", "by_part")):
            if profile[key]:
                print(
                    f"{title:<32}{'ms':>8}{'share':>7}{'GMAC':>8}{'MB':>8}{'roofline ms':>13}{'of roofline':>13}",
                    file=text,
                )
            for item in profile[key]:
                print(
                    f"{item['name'][-31:]:<32}{item['ms']:>8.2f}{item['share']:>7.0%}{_short(item['gmacs'], '.3f'):>8}"
                    f"{_short(item['mb'], '.1f'):>8}{_short(item['roofline_ms'], '.2f'):>13}"
                    f"{_short(item['of_roofline'], '.0%'):>13}",
                    file=text,
                )


def _print_sustained(result: dict[str, Any], text: TextIO) -> None:
    """Print how FPS went over the long runs."""
    for row in result["models"]:
        windows = (row.get("sustain") or {}).get("windows")
        if not windows:
            continue
        rates = [window["fps"] for window in windows]
        heat = [window["celsius"] for window in windows if window["celsius"] is not None]
        kept = row["sustain"]["kept"]
        print(
            f"\n{row['model']}, {windows[-1]['t_s']:.0f} s without a pause\n"
            f"FPS  {rates[0]:.1f} at first, {rates[-1]:.1f} at last, {min(rates):.1f} to {max(rates):.1f}"
            f"{'' if kept is None else f'; the last tenth is at {100 * kept:.0f} % of the first'}\n"
            f"     |{spark(rates)}|\n"
            f"heat {f'{heat[0]:.0f} C at first, {max(heat):.0f} C at most' if heat else NOT_AVAILABLE}",
            file=text,
        )


def _summary(row: dict[str, Any]) -> str:
    stages = row["ms"]
    whole = "".join(
        f"{value:>{9 if index == 0 else 8}.1f}" for index, value in enumerate(stages["end to end"].values())
    )
    return (
        f"{row_name(row)[-33:]:<34}{row['threads']:>8}{stages['network']['p50']:>9.1f}{whole}{row['fps']:>8.1f}"
        f"{row['cpu_ms']:>8.1f}{_short(row['gmacs_per_s'], '.1f'):>8}{_short(row['ap'], '.3f'):>7}"
    )


def _short(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
