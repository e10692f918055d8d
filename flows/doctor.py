"""Readiness: may a machine be patched as it stands, and is fleetpatch itself as it should be? Changes nothing."""

import contextvars
import functools
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from flows.ports import Ports
from flows.recovery import left_of
from inventory.machine import Machine, PrivilegeMethod
from tasks.errors import (
    AuthenticationFailed,
    BrokenPackages,
    CredentialError,
    FleetpatchError,
    HostKeyMismatch,
    HostKeyUnknown,
    InternalError,
    ListsUnread,
    ManagerBusy,
    ManagerError,
    PrivilegeError,
    ProtocolViolation,
    RecordsError,
    RepositoryError,
    TransportError,
    Unreachable,
)
from tasks.model import Assessment, ErrorInfo, Facts, Finding, PackageState, RunInfo
from tasks.records.history import History
from tasks.records.sql import SqlRecords
from tasks.rules.checks import LOCK, clock_finding
from tasks.rules.machine_state import state_findings
from tasks.seams.clock import SystemClock
from tasks.states import FindingLevel, OperationState, Step
from tasks.steps.assess import assess
from tasks.steps.context import Context, MachineRun, PatchOptions, Work
from tasks.steps.facts import read_facts
from tasks.steps.probes import try_all

logger = logging.getLogger(__name__)

PACKAGES = ("flows", "tasks", "deployments", "inventory")
DISTRIBUTION = "fleetpatch"
_NAMES_SHOWN = 5

LISTS = "package lists"
"""The check of whether the machine has ever read the lists of its repositories. What comes after it needs them."""

OWN = "own: "
"""Stands before the name of a check that the machine's owner has written."""

CHECKS = (
    "reach",
    "host key",
    "login",
    "privilege",
    "facts",
    "clock",
    LISTS,
    "disk",
    "packages",
    "repositories",
    LOCK,
    "pending-reboot",
    "auto-updater",
    "held",
)
"""Everything that is asked of a machine, in the order in which one needs the other before it."""

_FAILS_AT: tuple[tuple[type[FleetpatchError], str], ...] = (
    (Unreachable, "reach"),
    (HostKeyMismatch, "host key"),
    (HostKeyUnknown, "host key"),
    (AuthenticationFailed, "login"),
    (CredentialError, "login"),
    (PrivilegeError, "privilege"),
    (TransportError, "reach"),
    (ManagerBusy, LOCK),
    (ListsUnread, LISTS),
    (RepositoryError, "repositories"),
    (BrokenPackages, "packages"),
    (ManagerError, "packages"),
)
_PASSED = {
    "reach": "it answers",
    "host key": "it is the machine that it should be",
    "login": "the login works",
    "privilege": "the login may do what is needed",
    "facts": "it says what it is",
}
_AT_KIND = {kind.__name__: check for kind, check in _FAILS_AT}


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was found on one machine. Checks that could not be reached have no finding."""

    machine: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> FindingLevel:
        """The worst of its findings."""
        return worst(self.findings)

    @property
    def is_unread(self) -> bool:
        """Whether the machine has never read its package lists, so that the rest of it was not judged."""
        return any(finding.check == LISTS for finding in self.findings)


def worst(findings: Sequence[Finding]) -> FindingLevel:
    """Return the worst level among findings; good when there are none."""
    levels = {finding.level for finding in findings}
    order = (FindingLevel.BLOCK, FindingLevel.WARN)
    return next((level for level in order if level in levels), FindingLevel.GOOD)


def examine(machines: Sequence[Machine], ports: Ports, *, at_once: int, refresh: bool = False) -> tuple[Readiness, ...]:
    """Look at machines, so many at once.

    Args:
        machines: whom to ask.
        ports: the way to them; its watcher is told of every machine that is done.
        at_once: how many side by side.
        refresh: whether they read their repositories anew first: the only thing that this may change on them.
    """
    run = RunInfo(id="", kind="doctor", started_at=ports.clock.now(), state=OperationState.IN_PROGRESS)
    context = Context(
        run=run,
        options=PatchOptions(refresh=refresh),
        clock=ports.clock,
        records=ports.records,
        connect=ports.connect,
        manager_for=ports.manager_for,
        watch=ports.watch,
        control=ports.control,
    )
    with ThreadPoolExecutor(max(1, min(at_once, len(machines))), thread_name_prefix="doctor") as pool:
        look = functools.partial(_look, context)
        futures = [pool.submit(contextvars.copy_context().run, look, machine) for machine in machines]
        return tuple(future.result() for future in futures)


def judged(assessment: Assessment) -> tuple[Finding, ...]:
    """Return what an assessment means for patching its machine. Pure: also for one from long ago."""
    if assessment.error is not None or assessment.facts is None or assessment.packages is None:
        error = assessment.error or ErrorInfo.of(ProtocolViolation("the machine gave no full answer"))
        return _up_to(_AT_KIND.get(error.kind, "facts"), error)
    return (*_passed("clock"), *_of_state(assessment.facts, assessment.packages))


def _look(context: Context, machine: Machine) -> Readiness:
    context.watch.progress(machine.name, Step.ASSESS, None, "looking")
    findings = _asked(context, machine)
    if not machine.owner.ours:
        words = f"it is patched by its owner ({machine.owner}); fleetpatch only looks at it"
        findings = (*findings, Finding("owner", FindingLevel.GOOD, words))
    found = Readiness(machine.name, findings)
    blocking = [f"{each.check}: {each.message}" for each in findings if each.level is FindingLevel.BLOCK]
    state = OperationState.FAILED if blocking else OperationState.SUCCEEDED
    context.watch.finished(machine.name, Step.ASSESS, state.value, "; ".join(blocking))
    return found


def _asked(context: Context, machine: Machine) -> tuple[Finding, ...]:
    try:
        transport = context.connect(machine)
    except FleetpatchError as error:
        return _up_to(_place(error), _info(error))
    work = Work(context, transport, MachineRun(machine))
    try:
        try:
            run = assess(work)
            own = tuple(replace(each, check=f"{OWN}{each.check}") for each in try_all(work))
        except ListsUnread as error:
            return _unread(work, error)
    except FleetpatchError as error:
        return _up_to(_place(error), _info(error))
    except Exception as error:  # one machine's oddity must not hide what the others said
        logger.exception("%s: looking at it failed in a way that was not foreseen", machine.name)
        hint = "This is a fault in fleetpatch; --debug shows more."
        return _up_to("facts", ErrorInfo.of(InternalError(f"{type(error).__name__}: {error}", hint=hint)))
    finally:
        transport.close()
    if run.assessment is None:
        return _up_to("facts", ErrorInfo.of(ProtocolViolation("the machine gave no answer")))
    without_rights = machine.privilege is PrivilegeMethod.NONE
    return (*judged(run.assessment), *own, *([_no_rights()] if without_rights else []))


def _unread(work: Work, error: ListsUnread) -> tuple[Finding, ...]:
    """Return what can be said of a machine that has never read its package lists: that is no fault."""
    facts = read_facts(work.transport, work.context.clock, work.reading())
    remark = Finding(LISTS, FindingLevel.WARN, error.message, error.hint)
    return (*_passed("clock"), clock_finding(facts.clock_skew_seconds), remark)


def _no_rights() -> Finding:
    remedy = "Set privilege: auto (or sudo, doas, root) in the inventory to patch it."
    return Finding("privilege", FindingLevel.WARN, "the inventory says privilege: none, so it can only be read", remedy)


def _place(error: FleetpatchError) -> str:
    return next((check for kind, check in _FAILS_AT if isinstance(error, kind)), "facts")


def _info(error: FleetpatchError) -> ErrorInfo:
    return ErrorInfo.of(error)


def _up_to(check: str, error: ErrorInfo) -> tuple[Finding, ...]:
    """Return that all went well until a check, and this there."""
    return (*_passed(check), Finding(check, FindingLevel.BLOCK, error.message, error.hint))


def _passed(before: str) -> tuple[Finding, ...]:
    """Return that the checks before one went well: that it could be asked is their proof."""
    names = CHECKS[: CHECKS.index(before)]
    return tuple(Finding(name, FindingLevel.GOOD, _PASSED[name]) for name in names if name in _PASSED)


def _of_state(facts: Facts, packages: PackageState) -> tuple[Finding, ...]:
    found = state_findings(facts, packages, packages.updates)
    if not facts.can_reboot:
        remedy = "Restart it from its host when an update asks for that, and patch it with --reboot Never."
        found.append(Finding("pending-reboot", FindingLevel.WARN, "it can't reboot itself: its host has to", remedy))
    return tuple(found)


def examine_ourselves(open_records: Callable[[], SqlRecords]) -> tuple[Finding, ...]:
    """Look at fleetpatch itself.

    Args:
        open_records: opens the records, or raises RecordsError.
    """
    return (_one_parent(), *_requirements(), *_records(open_records))


def _one_parent() -> Finding:
    """The packages have plain names: another distribution's `tasks` before ours would be used without a word."""
    places = {name: _parent(name) for name in PACKAGES}
    if len(set(places.values())) == 1:
        return Finding("packages of fleetpatch", FindingLevel.GOOD, f"all in {places[PACKAGES[0]]}")
    told = ", ".join(f"{name} in {place or 'nowhere'}" for name, place in places.items())
    remedy = "Install fleetpatch into an environment of its own, and start it from a folder that has no such packages."
    return Finding("packages of fleetpatch", FindingLevel.BLOCK, f"they are not one installation: {told}", remedy)


def _parent(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve().parents[1] if spec is not None and spec.origin else None


def _requirements() -> list[Finding]:
    """Whether every library has a version that fleetpatch works with: some others only seem to work."""
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("libraries", FindingLevel.WARN, "fleetpatch is not installed, only on the path", "make venv")]
    faults = [fault for text in wanted if (fault := _fault(text))]
    if not faults:
        return [Finding("libraries", FindingLevel.GOOD, f"all {len(wanted)} have versions that were meant")]
    remedy = "Install from the lock file: pip install --require-hashes -r requirements.lock"
    return [Finding("libraries", FindingLevel.BLOCK, fault, remedy) for fault in faults]


def _fault(text: str) -> str:
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return f"{text!r} can't be understood"
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed"
    fits = wanted.specifier.contains(version, prereleases=True)
    return "" if fits else f"{wanted.name} {version} is installed; it has to be {wanted.specifier}"


def _records(open_records: Callable[[], SqlRecords]) -> tuple[Finding, ...]:
    try:
        with open_records() as records:
            left = [each for each in left_of(History(records), records.leases, SystemClock().now()) if not each.waits]
    except RecordsError as error:
        return (Finding("records", FindingLevel.BLOCK, error.message, error.hint),)
    good = Finding("records", FindingLevel.GOOD, "they can be read and written")
    if not left:
        return good, Finding("runs", FindingLevel.GOOD, "none was left half-way")
    names = ", ".join(each.run.id for each in left[:_NAMES_SHOWN])
    more = f" and {len(left) - _NAMES_SHOWN} more" if len(left) > _NAMES_SHOWN else ""
    said = f"{len(left)} abandoned: {names}{more}"
    return good, Finding("runs", FindingLevel.WARN, said, "fleetpatch reconcile takes them up; --dry-run only looks.")
