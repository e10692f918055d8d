"""The former place of ``open_records``. New code: ``from tasks.records import open_records``."""

from tasks.records.setup import open_records

__all__ = ["open_records"]
