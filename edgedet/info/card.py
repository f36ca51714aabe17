"""A model file's card: one HTML page to publish beside the file, without scripts and without anything from elsewhere.

In the sense of Hugging Face's model cards (arXiv 1810.03993): what it is, how it is used, how well it does, what it was
made from. What the file does not say, such as its licence, is named as missing.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ..files import atomic_path
from .info import Info

STYLE = """
:root{color-scheme:light dark;--paper:#f2f5f7;--card:#fff;--ink:#16202b;--soft:#54616e;--rule:#d9e0e6;--accent:#0b6e69;
--good:#12703a;--good-soft:#dcf2e4;--warn:#8a5300;--warn-soft:#fdecd0}
@media(prefers-color-scheme:dark){:root{--paper:#0f151b;--card:#18212a;--ink:#e8eef3;--soft:#a3b1bd;--rule:#2b3844;
--accent:#57d3c7;--good:#7ddc9f;--good-soft:#163824;--warn:#ffc46b;--warn-soft:#43300f}}
*{box-sizing:border-box}body{margin:0 auto;max-width:60rem;padding:1.5rem 1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:0 0 .6rem}
p{margin:.3rem 0}.soft{color:var(--soft)}section{background:var(--card);border:1px solid var(--rule);border-radius:12px;
padding:1rem 1.2rem;margin-top:1rem}
.verdict{border-radius:8px;padding:.6rem .9rem;margin:1rem 0 0;font-weight:600;background:var(--good-soft);
color:var(--good)}
.verdict.other{background:var(--warn-soft);color:var(--warn)}
dl{display:grid;grid-template-columns:minmax(8rem,auto) minmax(0,1fr);gap:.25rem 1.2rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}dd dl{margin:.1rem 0 .3rem}
pre{background:var(--paper);border:1px solid var(--rule);border-radius:8px;padding:.7rem;margin:.5rem 0;
white-space:pre-wrap;overflow-wrap:anywhere}
ul.classes{list-style:none;display:flex;flex-wrap:wrap;gap:.4rem;padding:0;margin:0}
.classes li{border:1px solid var(--rule);border-radius:99px;padding:.1rem .7rem}
summary{cursor:pointer;color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
"""
PRECISIONS = {"fp32": "32-bit floats", "fp16": "16-bit floats", "int8": "8-bit integers"}
MISSING = (
    "The file does not say under which licence its weights may be used, nor on which pictures it was trained: add both "
    "before you publish it. Pictures that differ from those of training and calibration, by light, angle or size of "
    "the objects, may give other figures."
)


def write_card(info: Info, path: Path) -> None:
    """Write the card; raises InputError where the file cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(make_card(info), encoding="utf-8")


def make_card(info: Info) -> str:
    """Return the page."""
    name = Path(info.file).name
    height, width = info.input_hw
    is_checkpoint = info.parameters is not None
    classes = f"{info.classes} class{'' if info.classes == 1 else 'es'}"
    sections = [
        ("How to use it", _usage(name, is_checkpoint)),
        ("What it is", _facts(_describe_model(info))),
        ("How well it does", _accuracy(info.report)),
        (
            "Classes",
            f"<ul class='classes'>{''.join(f'<li>{escape(class_name)}</li>' for class_name in info.class_names)}</ul>",
        ),
        ("What it was made from", _facts(_origin(info))),
        ("What this card does not say", f"<p>{escape(MISSING)}</p>"),
    ]
    if info.report:
        report = f"<details><summary>All figures of the export</summary>{_facts(_rows(info.report))}</details>"
        sections.append(("Report", report))
    verdict = "" if is_checkpoint else _verdict(info.report)
    body = "".join(f"<section><h2>{escape(title)}</h2>{content}</section>" for title, content in sections)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(name)}</title><style>{STYLE}</style></head>\n<body><main>"
        f"<h1>{escape(name)}</h1><p class='soft'>{escape(info.variant)}, an object detector: {width} x {height} "
        f"pixels, {escape(info.precision)}, {classes}, {info.bytes / 1e6:.1f} MB</p>{verdict}{body}"
        "</main></body></html>\n"
    )


def _verdict(report: Dict[str, Any]) -> str:
    gate, verify = report.get("gate"), report.get("verify")
    if isinstance(gate, dict) and gate.get("verdict"):
        passed = gate["verdict"] == "PASSED"
        text = f"Accuracy gate: {gate['verdict']}"
        if gate.get("value") is not None:
            text += f". {gate.get('figure', 'value')} {_shown(gate['value'])}, {_shown(gate.get('required'))} required"
        return f"<p class='verdict{'' if passed else ' other'}'>{escape(text)}</p>"
    if isinstance(verify, dict):
        return "<p class='verdict'>Verified: its outputs are the checkpoint's</p>"
    return "<p class='verdict other'>Neither verified nor judged: the file holds no report</p>"


def _usage(name: str, is_checkpoint: bool) -> str:
    if is_checkpoint:
        shell = f"pip install 'edgedet[export]'\nedgedet export --weights {name} --int8 --calib scene/"
        return f"<p>A checkpoint, from which model files are made:</p><pre>{escape(shell)}</pre>"
    shell = f"pip install 'edgedet[pc]'\nedgedet run photo.jpg {name}\nedgedet run --camera 0 --web {name}"
    python = f'import edgedet\n\nfor result in edgedet.run("street.mp4", "{name}"):\n    print(result.detections)'
    return (
        f"<p>In a shell:</p><pre>{escape(shell)}</pre><p>In Python:</p><pre>{escape(python)}</pre>"
        "<p class='soft'>Pictures go in as they are, of any size: how they are scaled is recorded in the file.</p>"
    )


def _describe_model(info: Info) -> List[Tuple[str, str]]:
    height, width = info.input_hw
    rows = [
        ("architecture", info.variant),
        ("trained with", f"code of {info.family} (compared with it: {info.compared})"),
        ("input", f"{width} x {height} pixels; pictures are scaled to fit, without changing their proportions"),
        ("output", "boxes in pixels of the picture, each with a class and a score from 0 to 1"),
        ("precision", PRECISIONS.get(info.precision, info.precision)),
    ]
    return rows if info.parameters is None else [*rows, ("parameters", f"{info.parameters / 1e6:.2f} million")]


def _accuracy(report: Dict[str, Any]) -> str:
    gate, verify, frames = (report.get(name) or {} for name in ("gate", "verify", "frames"))
    rows = []
    if gate:
        without = "pictures without labels, by the float model's detections"
        pictures = without if gate.get("ap_float") is None else "labelled pictures"
        rows += [
            ("judged on", f"{gate.get('images')} {pictures}: {gate.get('boxes')} boxes"),
            (str(gate.get("figure", "figure")), _shown(gate.get("value"))),
            ("required", _shown(gate.get("required"))),
            ("5th percentile", _shown(gate.get("low"))),
            ("AP, float and INT8", _pair(gate.get("ap_float"), gate.get("ap_int8"))),
            ("F1 against float", _shown(gate.get("f1"))),
            ("precision", _shown(gate.get("precision"))),
            ("recall", _shown(gate.get("recall"))),
            ("at the score", _shown(gate.get("score"))),
        ]
    if verify:
        worst = [verify[key] for key in ("class_logits", "box_codes") if isinstance(verify.get(key), float)]
        if worst:
            rows.append(
                ("compared with", f"{_shown(verify.get('reference'))}, on {_shown(verify.get('frames'))} frames")
            )
            rows.append(("largest difference", f"{max(worst):.1e} of the largest output"))
    if frames.get("source"):
        counts = ", ".join(f"{frames[key]} to {verb}" for key, verb in _USES if frames.get(key))
        rows.append(("pictures of", f"{frames['source']}: {counts}"))
    known = [(name, value) for name, value in rows if value not in ("", "-")]
    return _facts(known) if known else "<p>The file holds no figures.</p>"


_USES = (("calibrate", "calibrate"), ("select", "choose layers"), ("gate", "judge"))


def _pair(a: Any, b: Any) -> str:
    return "" if a is None or b is None else f"{_shown(a)} and {_shown(b)}"


def _origin(info: Info) -> List[Tuple[str, str]]:
    rows = [("this file", f"sha256 {info.sha256}")]
    if info.source_sha256 not in ("", info.sha256):
        rows.append(("checkpoint", f"sha256 {info.source_sha256}"))
    if info.versions:
        rows.append(("written by", ", ".join(f"{name} {version}" for name, version in info.versions.items())))
    return [*rows, *(("note", note) for note in info.notes)]


def _rows(values: Dict[str, Any]) -> List[Tuple[str, Any]]:
    return [(str(name), value) for name, value in values.items()]


def _facts(rows: List[Tuple[str, Any]]) -> str:
    """Return rows as a list of terms; a dict becomes a list within it."""
    cells = []
    for name, value in rows:
        inner = _facts(_rows(value)) if isinstance(value, dict) else escape(_shown(value))
        cells.append(f"<dt>{escape(name)}</dt><dd>{inner}</dd>")
    return f"<dl>{''.join(cells)}</dl>"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
