"""The former place of ``write_report``. New code: ``from tasks.reports import write_report``."""

from tasks.reports.writer import write_report

__all__ = ["write_report"]
