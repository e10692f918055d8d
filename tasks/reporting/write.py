"""The former place of ``write_report``. New code: ``from tasks.reporting import write_report``."""

from tasks.reporting.writer import write_report

__all__ = ["write_report"]
