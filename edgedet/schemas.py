"""The version of the JSON of each command: programs that read it can tell when a key changed its name or meaning.

A version goes up where a key goes, or where its meaning, unit or type changes. A new key changes nothing.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from .files import write_json

# what is written -> "schema" of its JSON
SCHEMAS = {
    "calibrate-motion": 1,
    "bench": 2,
    "bench compare": 1,
    "bench hosts": 1,
    "build": 1,
    "cameras": 1,
    "doctor": 1,
    "eval": 1,
    "export": 1,
    "import": 1,
    "info": 1,
    "label": 1,
    "plan": 1,
    "run": 1,
    "selftest": 1,
    "sensitivity": 1,
    "serve": 1,
    "sweep": 1,
    "train": 1,
}


def write_figures(command: str, where: Optional[str], figures: Dict[str, Any]) -> None:
    """Write what a command's ``--json`` prints, with the version of its schema first.

    where: as of ``write_json``, whose errors this raises, too. ``command`` is a key of SCHEMAS.
    """
    write_json(where, {"schema": SCHEMAS[command], **figures})
