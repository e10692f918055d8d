"""Reports of runs as files and pandas frames: the public names."""

from typing import TYPE_CHECKING

from inventory.lazy_names import build_name_loader

__all__ = [
    "ReportFrames",
    "build_frames",
    "write_report",
]

if TYPE_CHECKING:
    from tasks.reporting.export.data_frames import ReportFrames, build_frames
    from tasks.reporting.writer import write_report
else:
    __getattr__ = build_name_loader(
        __name__,
        {
            "ReportFrames": ("export.data_frames", "ReportFrames"),
            "build_frames": ("export.data_frames", "build_frames"),
            "write_report": ("writer", "write_report"),
        },
    )
