"""The pending updates of machines, in the versions that a run of the policy would install. Pure."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tasks.domain.model import Assessment, PackageState, Selection, Update
from tasks.domain.states import Classification, Severity
from tasks.rules.automatic.model import AutomaticPolicy, UpdateKey
from tasks.rules.updates.selection import select_updates


@dataclass(frozen=True, slots=True)
class PendingRow:
    """One pending update of a machine's newest assessment that has an answer.

    Attributes:
        version: the version that a run of the policy would install: of a package with security fixes the newest one
            of them, if the policy wants only those.
        held: why a run would not install it on this machine although the policy selects it, or "".
        installed: the version that is installed; None: it would be a new package.
        seen_at: when the assessment was made.
    """

    name: str
    version: str
    classification: Classification
    severity: Severity
    cves: tuple[str, ...]
    held: str
    installed: str | None
    published: datetime | None
    seen_at: datetime

    @property
    def key(self) -> UpdateKey:
        """Name and version."""
        return (self.name, self.version)


@functools.cache  # a fleet has many updates, and few ratings
def _rate_severity(text: str) -> Severity:
    return Severity.rate(text)


class PendingUpdateFinder:
    """Finds pending updates in assessments. Machines of a fleet are similar: equal lists are selected from once.

    Args:
        policy: which updates are wanted.
    """

    def __init__(self, policy: AutomaticPolicy) -> None:
        self._selection = Selection(classifications=policy.classifications, exclude=policy.exclude)
        classifications = policy.classifications
        esm = (
            {Classification.SECURITY_ESM} if Classification.SECURITY in classifications else frozenset[Classification]()
        )
        self._wanted = classifications | esm
        self._selected: dict[tuple[int, tuple[str, ...]], tuple[PackageState, tuple[tuple[Update, str], ...]]] = {}

    def list_pending(self, assessment: Assessment) -> tuple[PendingRow, ...]:
        """Return the pending updates of a machine, one for each name and version: architectures do not matter here."""
        rows_by_update: dict[UpdateKey, PendingRow] = {}
        for update, held in self._select(assessment.packages) if assessment.packages is not None else ():
            # Older versions that are still offered count as well: a rollout may have frozen one of them.
            for version in (update.available, *update.older_versions):
                row = PendingRow(
                    update.name,
                    version,
                    update.classification,
                    _rate_severity(update.severity),
                    tuple(update.cves or ()),
                    held,
                    update.installed,
                    update.published,
                    assessment.at,
                )
                if row.key not in rows_by_update or (rows_by_update[row.key].held and not held):
                    rows_by_update[row.key] = row
        return tuple(rows_by_update.values())

    def _select(self, packages: PackageState) -> tuple[tuple[Update, str], ...]:
        """Return the updates with the reason why a run would not install them, or ""."""
        key = (id(packages.updates), packages.held)
        if key not in self._selected:
            self._selected[key] = (packages, tuple(self._iterate_updates(packages)))  # kept: the id stays taken
        return self._selected[key][1]

    def _iterate_updates(self, packages: PackageState) -> Iterator[tuple[Update, str]]:
        chosen, skipped = select_updates(packages, self._selection)
        yield from ((update, "") for update in chosen)
        for result in skipped:
            is_wanted = result.update.classification in self._wanted
            yield result.update, result.reason if is_wanted else ""
