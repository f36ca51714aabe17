"""Write the plain part of a TensorRT network as C++: classes that keep what is set and refuse the rest.

TensorRT's public header NvInferImpl.h declares the functions that its classes call behind the scenes (VConvolutionLayer
and so on). For each class this writes one that stores the value of every pair setX/getX and refuses, with its name,
every other function. So each version's functions are there in its own order, and none is answered by accident.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

CLASS = re.compile(r"class V(\w+)\s*:\s*public VRoot\s*\{(.*?)\n\};?", re.DOTALL)
FUNCTION = re.compile(r"virtual\s+([^;()]+?)\s*\b(\w+)\(([^;]*?)\)\s*(const)?\s*(noexcept)?\s*=\s*0;", re.DOTALL)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
OLD = "DimsHW"  # arguments of functions that 8.x only keeps for programs of TensorRT 5


class Function(NamedTuple):
    """One function of a class: ``returns name(arguments) tail``."""

    returns: str
    name: str
    arguments: str
    tail: str


def header_from_impl(impl: Path) -> str:
    """Return the C++ header for NvInferImpl.h of one version."""
    text = COMMENT.sub("", impl.read_text(encoding="utf-8"))
    classes = [_stored_class(name, _functions(body)) for name, body in CLASS.findall(text) if _is_of_network(name)]
    return '#pragma once\n#include "stored.hpp"\nusing namespace nvinfer1;\n\n' + "\n".join(classes)


def _is_of_network(name: str) -> bool:
    return name in ("Tensor", "Layer", "NetworkDefinition") or name.endswith("Layer")


def _functions(body: str) -> list[Function]:
    return [
        Function(" ".join(returns.split()), name, " ".join(arguments.split()), f"{const} {noexcept}".strip())
        for returns, name, arguments, const, noexcept in FUNCTION.findall(body)
    ]


def _stored_class(name: str, functions: list[Function]) -> str:
    """Return ``struct StoredX : apiv::VX``."""
    pairs = _pairs(functions)
    lines = [f"struct Stored{name} : apiv::V{name}, Watched", "{"]
    for function in functions:
        kind, value = function.name[:3], function.name[3:]
        head = f"    {function.returns} {function.name}({function.arguments}) {function.tail} override "
        if value in pairs and kind == "set":
            argument = function.arguments.split()[-1].lstrip("&")
            lines.append(f"{head}{{ m{value} = {argument}; changed(); }}")
        elif value in pairs and kind == "get":
            lines.append(f"{head}{{ return m{value}; }}")
        else:
            lines.append(f'{head}{{ refuse("V{name}::{function.name}"); }}')
    lines += [f"    {pairs[value]} m{value}{{}};" for value in pairs]
    fields = " ".join(f'json.field("{value[0].lower()}{value[1:]}", m{value});' for value in pairs)
    lines += [f"    void write(Json& json) const {{ {fields} }}", "};", ""]
    return "\n".join(lines)


def _pairs(functions: list[Function]) -> dict[str, str]:
    """Return value name -> type of the pairs setX(type x), getX() whose type can be kept as it is."""
    getters = {
        function.name[3:] for function in functions if function.name.startswith("get") and not function.arguments
    }
    pairs = {}
    for function in functions:
        arguments = re.fullmatch(r"(?:const )?(\w+)(?: const ?&)? \w+", function.arguments)
        kept = arguments and function.name.startswith("set") and function.returns == "void" and arguments[1] != OLD
        if kept and arguments and function.name[3:] in getters:
            pairs[function.name[3:]] = arguments[1]
    return pairs
