"""apt, on Debian, Ubuntu and their kin. The scripts are tasks/scripts/apt_*.sh; the parsing is in apt_parse.py."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import floor
from typing import Final

from tasks.errors import DeadlineExceeded, ProtocolViolation, RequestError
from tasks.managers.apt_assess import JUST_ENDED, read_assessment
from tasks.managers.apt_parse import parse_simulation
from tasks.managers.apt_rehearse import Answer, rehearse
from tasks.managers.sections import sections_of, text_of
from tasks.model import PackageState, Update
from tasks.seams.clock import Deadline
from tasks.seams.manager import Rehearsal, Transaction, Work
from tasks.seams.transport import ParameterValue, Script, Transport

ASSESS: Final = "apt_assess"
REHEARSE: Final = "apt_rehearse"
INSTALLED: Final = "apt_installed"
JOB: Final = "apt_job"
UPDATERS: Final = "apt_updaters"

LOCKS: Final = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)

LISTS_LOCK_SECONDS: Final = "60"
"""How long an assessment waits for another process that reads apt's lists."""
PACKAGES_LOCK_SECONDS: Final = "300"
"""How long a transaction waits for dpkg's lock; never past its latest start."""

REREADINGS: Final = 2
"""How often an assessment reads again at most, when somebody changed packages as it read."""

NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.\-]*(:[a-z0-9\-]+)?")
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:\-]*")
"""Debian Policy 5.6.1 and 5.6.12: what may go into a command line."""


class Apt:
    """The PackageManager of Debian's family."""

    name = "apt"
    updaters = UPDATERS
    locks: tuple[str, ...] = LOCKS

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Ask for everything that is pending, in one round trip; again when packages were changed meanwhile.

        What is read takes seconds: of a transaction that ends in them, one half would be seen, and called broken.

        Raises:
            ManagerBusy: another process reads apt's lists all the time.
            RepositoryError: no repository answers, or none is known.
            ManagerError: apt can't work at all.
        """
        params = {"refresh": "yes", "lock_wait_seconds": LISTS_LOCK_SECONDS} if refresh else {}
        state = read_assessment(transport.run(Script(ASSESS, params), deadline=deadline))
        for _ in range(REREADINGS):
            if state.at_work != JUST_ENDED:
                break
            try:
                again = read_assessment(transport.run(Script(ASSESS), deadline=deadline))
            except DeadlineExceeded:  # the first reading took most of the time, and its answer says what it is worth
                break
            state = replace(again, warnings=tuple(dict.fromkeys((*state.warnings, *again.warnings))))
        return state

    def rehearse(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> Rehearsal:
        """Ask what installing exactly these would do; when apt refuses them together, which ones it refuses."""

        def ask(wanted: Sequence[Update], *, uris: bool) -> Answer:
            params = {"packages": tuple(wish(update) for update in wanted), "uris": "yes" if uris else ""}
            sections = sections_of(transport.run(Script(REHEARSE, params), deadline=deadline), REHEARSE, "simulation")
            fetch = sections["uris"].text if "uris" in sections else None
            return Answer(parse_simulation(sections["simulation"].text), fetch)

        return rehearse(updates, ask)

    def installed(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> Mapping[str, str]:
        """Ask dpkg: update id -> version, of packages that are whole and configured."""
        if not updates:
            return {}
        names = tuple(dict.fromkeys(_name(update) for update in updates))
        result = transport.run(Script(INSTALLED, {"packages": names}), deadline=deadline)
        sections = sections_of(result, INSTALLED, "packages")
        states = result.of_kind("state")
        if not states:
            raise ProtocolViolation(f"{INSTALLED} did not say the machine's architecture")
        whole = whole_packages(sections["packages"].text, text_of(states[0], "native"))
        return {update.id: whole[update.id] for update in updates if update.id in whole}

    def job(
        self,
        work: Work,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """Return the script of a job that does this work, one transaction after the other.

        Raises:
            RequestError: there is nothing to do, or a package's name or version is none.
        """
        if not transactions or (work is not Work.REPAIR and not all(t.updates for t in transactions)):
            raise RequestError(f"a job of kind {work} needs transactions, each with updates")
        params: dict[str, ParameterValue] = {
            "work": work.value,
            "numbers": tuple(str(transaction.number) for transaction in transactions),
            "allowed": tuple(dict.fromkeys(update.id for update in allowed)),
            "allow_removals": "yes" if allow_removals else "",
            "excluded": tuple(excluded),
            "lock_wait_seconds": PACKAGES_LOCK_SECONDS,
        }
        for transaction in transactions:
            params[f"tx_{transaction.number}_packages"] = tuple(wish(update) for update in transaction.updates)
            present = tuple(update.id for update in transaction.updates if update.installed is not None)
            params[f"tx_{transaction.number}_present"] = present
            params[f"tx_{transaction.number}_latest_start"] = str(floor(transaction.latest_start))
            if transaction.stop_at is not None:
                params[f"tx_{transaction.number}_stop_at"] = str(floor(transaction.stop_at))
        return Script(JOB, params, read_only=False)


def _name(update: Update) -> str:
    if not NAME.fullmatch(update.name):
        raise RequestError(f"not a Debian package: {update.name!r}")
    return update.name


def wish(update: Update) -> str:
    """Return a package with the exact version that is asked of apt.

    Raises:
        RequestError: it isn't a Debian package's name and version: apt would take it for an option or a pattern.
    """
    if not (NAME.fullmatch(update.id) and VERSION.fullmatch(update.available)):
        raise RequestError(f"not a Debian package and version: {update.id!r} {update.available!r}")
    return f"{update.id}={update.available}"


def whole_packages(text: str, native: str) -> Mapping[str, str]:
    """Read what apt_installed.sh says: name, as apt writes it -> version, of whole and configured packages."""
    whole: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 5 and fields[2:4] == ["ok", "installed"]:
            name, arch = fields[:2]
            whole[name if arch in {native, "all"} else f"{name}:{arch}"] = fields[4]
    return whole
