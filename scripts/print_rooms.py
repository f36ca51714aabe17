"""Print which rooms import which others, how often, and the pairs with arrows both ways: there must be none.

    python scripts/print_rooms.py

A room is a folder, at any depth; the files beside it count as rooms of their own. Read from the code by grimp, which
import-linter brings. The exit code is 1 where two rooms import each other.
"""

from __future__ import annotations

import sys
from collections import Counter

import grimp


def count_arrows(graph: grimp.ImportGraph) -> Counter[tuple[str, str]]:
    """Return (importing room, imported room) -> number of imports, for rooms that are siblings.

    An import counts once, where the two names part: edgedet.export.int8.gate -> edgedet.judge.gate.verdict is an
    arrow from edgedet.export to edgedet.judge.
    """
    arrows: Counter[tuple[str, str]] = Counter()
    for importer in sorted(graph.modules):
        for imported in graph.find_modules_directly_imported_by(importer):
            source, target = importer.split("."), imported.split(".")
            at = next((at for at, pair in enumerate(zip(source, target, strict=False)) if pair[0] != pair[1]), None)
            if at is not None:  # else one is the other's package
                arrows[".".join(source[: at + 1]), ".".join(target[: at + 1])] += 1
    return arrows


def find_mutual(arrows: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of rooms that import each other."""
    return sorted((source, target) for source, target in arrows if source < target and (target, source) in arrows)


def main() -> int:
    """Print rooms with arrows, and the mutual pairs; return the exit code."""
    arrows = count_arrows(grimp.build_graph("edgedet", cache_dir=None))
    rooms = {name for pair in arrows for name in pair if name.count(".") == 1}
    for room in sorted(rooms):
        to = {target: count for (source, target), count in arrows.items() if source == room}
        shown = ", ".join(f"{target.removeprefix('edgedet.')} {count}" for target, count in sorted(to.items()))
        print(f"{room.removeprefix('edgedet.'):<16} -> {shown or 'nothing'}")
    mutual = find_mutual(arrows)
    print(f"{len(arrows)} arrows between siblings, {len(mutual)} pairs with arrows both ways")
    for source, target in mutual:
        print(f"  {source} <-> {target}: {arrows[source, target]} and {arrows[target, source]} imports")
    return 1 if mutual else 0


if __name__ == "__main__":
    sys.exit(main())
