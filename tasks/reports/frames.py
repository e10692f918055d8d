"""The former place of ``frames``. New code: ``from tasks.reports import build_frames``."""

from tasks.reports.export.data_frames import build_frames as frames

__all__ = ["frames"]
