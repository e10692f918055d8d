"""How much one machine may report. A report over a limit is refused as a whole: nothing of it is cut. Pure.

A machine may be hostile or broken. Without limits it could fill the records, slow down all pages, and let its own
updates hide those of all other machines. A part of its report would look like an answer, and a machine whose updates
are known in part must not count as compliant. So all of it is refused: the machine's state is Failed, its compliance
NotAssessed, and no run changes it. The transport limits the bytes of an answer
(tasks/machines/transport/output_decoder.py). These are limits of what it means.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import ReportTooLarge
from tasks.domain.model import Facts, PackageState
from tasks.domain.protocols.package_manager import SimulationResult

MAX_UPDATES: Final = 10_000
"""Pending updates. A full desktop between two releases has about 4,000; one with all of TeX, debug and development
packages on a distribution that is rebuilt as a whole, about 7,000."""
MAX_INSTALLED_PACKAGES: Final = 50_000
"""Installed packages. A machine with 10,000 of them is rare. The largest distributions offer about 65,000 in all."""
MAX_ITEMS: Final = 10_000
"""Entries of any other list: the CVEs of one update, services, ports, findings, warnings. The fixes of a kernel that is
some years old are about 4,000 CVEs."""
MAX_FINDINGS: Final = 200
"""Findings of one script. A machine with everything wrong has some tens."""
MAX_LOCKS: Final = 1_000
"""Rules with which a machine's owner holds packages. Each is compared with each package."""
MAX_ALL_ITEMS: Final = 250_000
"""All values of a report together, apart from the fields of updates. The CVEs of a kernel count for each of its
packages: on a machine that is some years behind, about 15 of them."""
MAX_REPOSITORIES: Final = 1_000
"""Repositories that are configured. A large machine has some tens."""
MAX_LINES: Final = 1_000_000
"""Lines of one command's output. Those of 10,000 packages with all their versions and dependencies are 400,000."""
MAX_NAME_LENGTH: Final = 500
"""Characters of an update's name, id, version, architecture or title. Windows Server Update Services stores 200."""
MAX_TEXT_LENGTH: Final = 10_000
"""Characters of any other text: a warning, a reason, the name of a service."""
MAX_ALL_CHARACTERS: Final = 8_000_000
"""Characters of all texts of a report together. 7,000 updates with all that is known of them have about 3 million."""
EARLIEST_PUBLICATION: Final = datetime(2009, 7, 22, tzinfo=UTC)
"""The release to manufacturing of Windows Server 2008 R2, the oldest system that answers. Nothing that a supported
system lacks was published before it; Microsoft dates some drivers 2006 so that they come last."""
PUBLICATION_TOLERANCE: Final = timedelta(days=1)
"""How far a publisher's clock or its time zone may be ahead."""

_NAMES: Final = frozenset({"id", "name", "arch", "installed", "available", "group", "severity", "kb", "title"})
_HINT: Final = (
    "No real machine reports as much, so nothing of its report is taken: it counts as not assessed, and no run changes "
    "it. Look at that machine: its package manager, its repositories, and who has been on it."
)


def require_count(count: int, most: int, subject: str) -> None:
    """Require that a machine reports no more than it may. Raise ReportTooLarge if it reports more."""
    if count > most:
        raise ReportTooLarge(f"the machine reports {count:,} {subject}, and more than {most:,} are refused", hint=_HINT)


def require_length(text: str, most: int, subject: str) -> None:
    """Require that a text of a machine is no longer than it may be. Raise ReportTooLarge if it is longer."""
    if len(text) > most:
        message = (
            f"the machine reports a text of {len(text):,} characters ({subject}), and more than {most:,} are refused"
        )
        raise ReportTooLarge(message, hint=_HINT)


def require_within_limits(report: Facts | PackageState | SimulationResult) -> None:
    """Require that a report of a machine is within all limits.

    Raises:
        ReportTooLarge: it is not; the message names what is too much.
    """
    _Meter().measure(report, "report")


def drop_impossible_dates(packages: PackageState, now: datetime) -> PackageState:
    """Return a package state without publications that can't be: of the future, or older than every system.

    Such an update counts as one of which the publication is not known.
    """
    latest = now + PUBLICATION_TOLERANCE
    wrong = {
        update.id
        for update in packages.updates
        if update.published is not None and not EARLIEST_PUBLICATION <= update.published <= latest
    }
    if not wrong:
        return packages
    updates = (replace(update, published=None) if update.id in wrong else update for update in packages.updates)
    return replace(packages, updates=tuple(updates))


_SINGLE: Final = frozenset({bool, int, float, datetime, date, type(None)})


@dataclass(slots=True)
class _Meter:
    """Adds up what a report has."""

    items: int = 0
    characters: int = 0

    def measure(self, value: object, name: str) -> None:
        kind = type(value)
        if kind in _SINGLE:
            return
        if isinstance(value, str):
            self._measure_text(value, name)
        elif is_dataclass(kind):
            for field_name in kind.__dataclass_fields__:
                part = getattr(value, field_name)
                if type(part) is str:  # most are
                    self._measure_text(part, field_name)
                elif type(part) not in _SINGLE:
                    self.measure(part, field_name)
        elif isinstance(value, Mapping):
            self._measure_items(value.keys(), name)
            self._measure_items(value.values(), name)
        elif isinstance(value, Sequence | Set):
            self._measure_items(value, name)

    def _measure_text(self, text: str, name: str) -> None:
        length = len(text)
        if length > (MAX_NAME_LENGTH if name in _NAMES else MAX_TEXT_LENGTH):
            require_length(text, MAX_NAME_LENGTH if name in _NAMES else MAX_TEXT_LENGTH, _describe(name))
        self.characters += length
        if self.characters > MAX_ALL_CHARACTERS:
            require_count(self.characters, MAX_ALL_CHARACTERS, "characters in all")

    def _measure_items(self, values: Sequence[object] | Set[object] | Iterable[object], name: str) -> None:
        checked_values = list(values)
        most = MAX_UPDATES if name == "updates" else MAX_ITEMS
        if len(checked_values) > most:
            require_count(len(checked_values), most, _describe(name))
        self.items += len(checked_values)
        require_count(self.items, MAX_ALL_ITEMS, "names in all")
        for value in checked_values:
            self.measure(value, name)


def _describe(name: str) -> str:
    return name.replace("cves", "CVEs").replace("_", " ")
