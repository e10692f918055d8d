"""The former place of ``History``. New code: ``from tasks.records import History``."""

from tasks.records.queries.history import History

__all__ = ["History"]
