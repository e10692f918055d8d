"""The former place of ``frames``. New code: ``from tasks.reporting import build_frames``."""

from tasks.reporting.export.data_frames import build_frames as frames

__all__ = ["frames"]
