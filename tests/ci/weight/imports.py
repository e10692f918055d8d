"""The imports between the modules of a checkout, those for annotations included: circles, and arrows that run up."""

import sys
from collections.abc import Sequence
from pathlib import Path

import grimp

Arrow = tuple[str, str]
"""A module that imports, and the module that it imports."""


def read_imports(root: Path, rooms: Sequence[str]) -> grimp.ImportGraph:
    """Return the imports of a checkout. No module of its rooms may be loaded from elsewhere by then."""
    sys.path.insert(0, str(root))
    try:
        return grimp.build_graph(*rooms, exclude_type_checking_imports=False, cache_dir=None)
    finally:
        sys.path.remove(str(root))


def find_circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Return the groups of modules in which each module imports all others, directly or through some."""
    circles: list[list[str]] = []
    for module in sorted(graph.modules):
        if not any(module in circle for circle in circles):
            circle = graph.find_upstream_modules(module) & graph.find_downstream_modules(module)
            if circle:
                circles.append(sorted({module, *circle}))
    return circles


def find_arrows_up(graph: grimp.ImportGraph, rooms: Sequence[str]) -> list[Arrow]:
    """Return the imports that keep rooms, and the parts inside each room, from standing in one order.

    Args:
        graph: the imports.
        rooms: the packages at the top, the lowest one first.
    """
    arrows = {
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if rooms.index(importer.split(".")[0]) < rooms.index(imported.split(".")[0])
    }
    for package in graph.modules:
        if graph.find_children(package):
            arrows |= graph.nominate_cycle_breakers(package)
    return sorted(arrows)
