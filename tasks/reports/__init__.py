"""Reports of runs as files and pandas frames: the public names."""

from typing import TYPE_CHECKING

from inventory.lazy_names import build_name_loader

__all__ = ["FleetQuery", "ReportFrames", "build_frames", "open_query", "write_report"]

if TYPE_CHECKING:
    from tasks.reports.export.tabular_formats import ReportFrames, build_frames
    from tasks.reports.query.engine import FleetQuery, open_query
    from tasks.reports.writer import write_report
else:
    __getattr__ = build_name_loader(
        __name__,
        {
            "FleetQuery": ("query.engine", "FleetQuery"),
            "ReportFrames": ("export.tabular_formats", "ReportFrames"),
            "build_frames": ("export.tabular_formats", "build_frames"),
            "open_query": ("query.engine", "open_query"),
            "write_report": ("writer", "write_report"),
        },
    )
