"""Find the directory of reports: the requested one, or one in the user's data folder."""

from pathlib import Path

import platformdirs

from inventory.files.paths import find_user_directory
from tasks.errors import ReportError


def find_report_directory(asked: Path | None) -> Path:
    """Return the directory of reports: the requested one, or one in the user's data folder.

    Raises:
        ReportError: the user has no data folder.
    """
    if asked is not None:
        return asked
    return find_user_directory(platformdirs.user_data_path, ReportError, "name a directory for reports") / "reports"
