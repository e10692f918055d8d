"""The retention of the history. Pure."""

from inventory.data_class import dataclass

MIN_RETENTION_DAYS = 45
"""A run may last up to 38 days (its lead and its window). Retention must not delete it before it ends."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days the records are kept. None means forever."""

    assessments_days: int | None  # for runs that only assess machines, and for superseded assessments
    runs_days: int | None  # for all other runs, with outcomes, journal and job output

    @property
    def is_forever(self) -> bool:
        """Return whether everything is kept forever."""
        return self.assessments_days is None and self.runs_days is None

    def find_fault(self) -> str:
        """Return what is wrong with the retention, or ""."""
        for setting, days in (("assessments", self.assessments_days), ("runs", self.runs_days)):
            if days is not None and days < MIN_RETENTION_DAYS:
                return f"{setting} cannot be kept for {days} days only: a run may last up to 38 days"
        if self.runs_days is not None and (self.assessments_days is None or self.assessments_days > self.runs_days):
            return "runs cannot be forgotten before assessments"
        return ""


DEFAULT_RETENTION = Retention(assessments_days=90, runs_days=730)
"""The retention of new records."""
