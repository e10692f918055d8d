"""Finds out from assessments and installations which fixes each machine lacked, from when until when. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from tasks.rules.compliance.model import Fix, Installation, PendingFix, Sight

Version = tuple[str, str]
"""Name and version of an update."""


@dataclass(slots=True)
class _OpenFix:
    """A fix that a machine lacks at its last sight."""

    first: PendingFix
    last: PendingFix


def find_fixes(
    sights: Iterable[Sight],
    installations: Iterable[Installation],
    first_seen: Mapping[Version, datetime],
    baseline_until: datetime,
) -> tuple[Fix, ...]:
    """Return each fix that a machine lacked.

    A newer version of an update that is pending already does not make a new fix: the machine lacks it since the first
    one. After an installation, what is still pending of the same name is a new fix.

    Args:
        sights: by machine, then by time.
        installations: of these machines.
        first_seen: when an update was first seen, as far as that is stored.
        baseline_until: sights before it only show what was known by then; when it became known is not known.
    """
    ordered = list(sights)
    times = _find_known_times(ordered, first_seen)
    by_key: dict[tuple[str, str], list[Installation]] = {}
    for installation in sorted(installations, key=lambda one: one.at):
        by_key.setdefault((installation.machine, installation.name), []).append(installation)
    fixes: list[Fix] = []
    for machine, own in groupby(ordered, key=lambda sight: sight.machine):
        fixes += _follow_machine(_Follower(machine, times, by_key, first_seen, baseline_until), list(own))
    return tuple(fixes)


def _find_known_times(sights: Sequence[Sight], first_seen: Mapping[Version, datetime]) -> dict[Version, datetime]:
    """Return when each update became known: its stored time, or its first sight on any machine."""
    published_by_version: dict[Version, datetime] = {}
    for sight in sights:
        for fix in sight.pending:
            key = (fix.name, fix.version)
            published_by_version[key] = min(
                sight.at, published_by_version.get(key, sight.at), first_seen.get(key, sight.at)
            )
    return published_by_version


@dataclass(slots=True)
class _Follower:
    """What is needed to close the fixes of one machine."""

    machine: str
    known: Mapping[Version, datetime]
    installations: Mapping[tuple[str, str], Sequence[Installation]]
    first_seen: Mapping[Version, datetime]
    baseline_until: datetime

    def find_installation(self, name: str, after: datetime, until: datetime) -> Installation | None:
        """Return the last installation of an update of this name in a time."""
        own = self.installations.get((self.machine, name), ())
        position = bisect_right(own, until, key=lambda each: each.at)
        return own[position - 1] if position and own[position - 1].at > after else None

    def close(self, fix: _OpenFix, ended_at: datetime | None, *, by_run: bool) -> Fix:
        """Return a fix."""
        key = (fix.first.name, fix.first.version)
        known_at = self.known[key]
        return Fix(
            machine=self.machine,
            name=fix.first.name,
            version=fix.last.version,
            kind=fix.first.kind,
            known_at=known_at,
            known_at_least=known_at < self.baseline_until and key not in self.first_seen,
            ended_at=None if ended_at is None else max(ended_at, known_at),
            installed_by_run=by_run,
            withheld=fix.last.withheld,
        )


def _follow_machine(follower: _Follower, sights: Sequence[Sight]) -> list[Fix]:
    fixes: list[Fix] = []
    missing: dict[str, _OpenFix] = {}
    before: datetime | None = None
    for sight in sights:
        pending = {fix.name: fix for fix in sight.pending}
        for name, fix in list(missing.items()):
            installed = follower.find_installation(name, before, sight.at) if before is not None else None
            still = pending.get(name)
            if still is not None and (installed is None or installed.version == still.version):
                fix.last = still
                continue
            fixes.append(follower.close(fix, installed.at if installed else sight.at, by_run=installed is not None))
            del missing[name]
        for name, pending_fix in pending.items():
            missing.setdefault(name, _OpenFix(pending_fix, pending_fix))
        before = sight.at
    for name, fix in missing.items():
        installed = follower.find_installation(name, sights[-1].at, datetime.max.replace(tzinfo=sights[-1].at.tzinfo))
        fixes.append(follower.close(fix, installed.at if installed else None, by_run=installed is not None))
    return fixes
