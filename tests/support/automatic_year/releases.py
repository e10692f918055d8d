"""The security releases of a real year, see tests/data/automatic."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

DATA = Path(__file__).parents[2] / "data" / "automatic" / "releases_2022.csv"
YEAR_START = datetime(2022, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Release:
    """One new version of a package."""

    at: datetime
    version: str
    package: str
    kind: str
    cve: str = ""


def read_releases() -> tuple[Release, ...]:
    """Return all releases, the oldest first. Those of a day come out at 10:00 UTC."""
    lines = (line for line in DATA.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    rows = csv.DictReader(lines)
    found = [
        Release(
            datetime.fromisoformat(row["day"]).replace(tzinfo=UTC) + timedelta(hours=10),
            row["advisory"],
            row["package"],
            row["kind"],
            row["cve"],
        )
        for row in rows
    ]
    return tuple(sorted(found, key=lambda each: (each.at, each.version)))
