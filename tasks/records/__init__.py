"""History and journal of runs: the public names.

Whatever reads or writes the records raises RecordsError if they can't be reached, unless its docstring says otherwise.
"""

from typing import TYPE_CHECKING

from inventory.lazy_names import build_name_loader

__all__ = ["History", "QueryTables", "open_records", "prune_history"]

if TYPE_CHECKING:
    from tasks.records.queries.history import History
    from tasks.records.queries.tables import QueryTables
    from tasks.records.retention import prune_history
    from tasks.records.setup import open_records
else:
    __getattr__ = build_name_loader(
        __name__,
        {
            "History": ("queries.history", "History"),
            "QueryTables": ("queries.tables", "QueryTables"),
            "open_records": ("setup", "open_records"),
            "prune_history": ("retention", "prune_history"),
        },
    )
