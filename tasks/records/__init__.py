"""History and journal of runs: the public names."""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "History",
    "open_records",
    "prune_history",
]

if TYPE_CHECKING:
    from tasks.records.queries.history import History
    from tasks.records.retention import prune_history
    from tasks.records.setup import open_records
else:
    _HOMES = {
        "History": ("queries.history", "History"),
        "open_records": ("setup", "open_records"),
        "prune_history": ("retention", "prune_history"),
    }

    def __getattr__(name: str) -> object:
        """Load a public name on first use. The load takes about one second; importers that do not need it save that."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        return getattr(import_module(f"{__name__}.{module}"), attribute)
