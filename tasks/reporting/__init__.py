"""Reports of runs as files and pandas frames: the public names."""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "ReportFrames",
    "build_frames",
    "write_report",
]

if TYPE_CHECKING:
    from tasks.reporting.export.data_frames import ReportFrames, build_frames
    from tasks.reporting.writer import write_report
else:
    _HOMES = {
        "ReportFrames": ("export.data_frames", "ReportFrames"),
        "build_frames": ("export.data_frames", "build_frames"),
        "write_report": ("writer", "write_report"),
    }

    def __getattr__(name: str) -> object:
        """Load a public name on first use. The load takes about one second; importers that do not need it save that."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        return getattr(import_module(f"{__name__}.{module}"), attribute)
