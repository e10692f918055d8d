"""What past runs tell of the speed of machines, for what is shown without records as well."""

from pathlib import Path

from tasks.domain.errors import RecordsError
from tasks.records.fleets import build_file_path, find_fleet
from tasks.records.queries.fleet.learned_durations import LearnedDurations, read_learned_durations
from tasks.records.setup import open_records
from tasks.records.storage.url import find_records_url


def read_learned(records_url: str | None) -> tuple[LearnedDurations, str]:
    """Return what the records tell, and why that is nothing if they can't be read. Records that are missing stay so.

    Args:
        records_url: the URL of the records; None: the default.
    """
    try:
        url = find_records_url(records_url)
        file = build_file_path(Path(str(url.database)), find_fleet())
        if url.get_backend_name() == "sqlite" and not file.exists():
            return LearnedDurations(), ""
        with open_records(records_url) as opened:
            return read_learned_durations(opened.database), ""
    except RecordsError as error:
        return LearnedDurations(), f"durations of past runs are not known: {error.message}"
