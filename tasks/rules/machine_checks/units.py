"""Compares units of systemd, and services of Windows, before and after patching: what ran must run again. Pure.

What somebody else starts when it is needed (a socket, a timer, D-Bus), what has ended by itself, and what has done its
work once are no faults: see systemd.unit(5) and systemd.service(5). An update of Windows may leave a service disabled,
start it otherwise, or remove it. Then nothing has failed, and it does not run.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from inventory.data_class import dataclass
from inventory.name_lists import join_first_names
from tasks.domain.model import Finding, Services
from tasks.domain.services import ServiceRun

UNITS_CHECK: Final = "services"
_MAX_WORDS: Final = 300
_LOGIN_UNITS: Final = re.compile(r"user@\d+\.service|user-runtime-dir@\d+\.service|.+@\d+-.+-.+\.service")
"""Units that exist only for a login, a connection or a crash of a user's program."""
_NUMBERED_UNITS: Final = re.compile(r"(lvm2-pvscan|systemd-fsck|systemd-backlight|systemd-rfkill)@.*|snap-.+\.mount")
"""Units of a device or of a revision of a snap: after the next boot, it may have another number."""
_ON_DEMAND_TYPES: Final = frozenset({"dbus"})
_ACTIVE_STATES: Final = frozenset({"active", "reloading", "refreshing"})
_READ_LOGS: Final = "Read their logs on the machine, repair them and start them."


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """What systemd says of a unit.

    Attributes:
        name: the name that was asked for; the unit may have another one now.
        load: loaded, not-found, masked, …
        active: active, inactive, failed, activating, …
        sub: the finer state of its type.
        kind: Type= of a service, or "".
        triggered_by: the units that start it when it is needed.
        has_job: systemd is about to start or to stop it.
        lacks_condition: its start was skipped, because a condition of its file is not met.
    """

    name: str
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    kind: str = ""
    wanted_by: tuple[str, ...] = ()
    triggered_by: tuple[str, ...] = ()
    has_bus_name: bool = False
    has_job: bool = False
    lacks_condition: bool = False
    was_active: bool = False
    words: str = ""

    @property
    def is_service(self) -> bool:
        """Whether it is a service."""
        return self.name.endswith(".service")

    @property
    def is_short(self) -> bool:
        """Whether it is a service that does something once, and then has nothing that runs."""
        return self.kind == "oneshot"

    @property
    def starts_on_demand(self) -> bool:
        """Whether somebody else starts it when it is needed, so that it need not run."""
        return self.is_service and (bool(self.triggered_by) or self.has_bus_name or self.kind in _ON_DEMAND_TYPES)


class UnitFault(Enum):
    """What is wrong with a unit that was active before patching: the words of its finding."""

    FAILED = "failed since patching"
    CRASHES = "ends again and again since patching, and is started again"
    STARTING = "still starting"
    NOT_STARTED = "active before patching, and not started at the boot"
    STOPPED = "stopped since patching, and not started again"
    NOT_STARTED_BY_ITSELF = "active before patching, and not started since: nothing starts it at the boot"
    MASKED = "active before patching, and masked since"
    ENDED = "active for systemd, but nothing of it runs any more since patching"
    SKIPPED = "active before patching, and not started, because a condition of its unit is not met"
    GONE = "active before patching, and its unit does not exist any more"


_REMEDIES: Final[Mapping[UnitFault, str]] = {
    UnitFault.FAILED: _READ_LOGS,
    UnitFault.CRASHES: _READ_LOGS,
    UnitFault.STARTING: "Look on the machine whether they become active.",
    UnitFault.NOT_STARTED: _READ_LOGS,
    UnitFault.STOPPED: "Find out who stopped them, and start them.",
    UnitFault.NOT_STARTED_BY_ITSELF: "Start them if they are needed, and enable them if the system is to start them.",
    UnitFault.MASKED: "Unmask and start them, or look whether an update has removed their package.",
    UnitFault.ENDED: _READ_LOGS,
    UnitFault.SKIPPED: "Look at the conditions of their unit files.",
    UnitFault.GONE: "Look whether an update has removed or renamed them.",
}
_WARNINGS: Final = frozenset({UnitFault.NOT_STARTED_BY_ITSELF, UnitFault.SKIPPED, UnitFault.GONE})


def find_failed_service_units(names: Iterable[str]) -> tuple[str, ...]:
    """Return the failed units that belong to the machine, not to a login or a connection."""
    return tuple(name for name in names if not _LOGIN_UNITS.fullmatch(name))


def find_missing_units(before: Services, after: Services, paused: Collection[str] = ()) -> tuple[str, ...]:
    """Return the units to ask for: active before and not now, failed since, or active now without the run of before.

    ``paused`` are the units that this run itself has stopped and masked until its end.
    """
    if not after.active_units:
        return ()
    ended = {run.name for run in before.runs} - {run.name for run in after.runs}
    missing = {*before.active_units} - ({*after.active_units} - ended) - {*paused}
    inactive = {name for name in missing if not _NUMBERED_UNITS.fullmatch(name)}
    return tuple(sorted(find_failed_service_units(inactive | (set(after.failed) - set(before.failed)))))


_LOOP_RESTARTS: Final = 2
_SHORT_LIFE_SECONDS: Final = 5.0
_USUAL_LIVES: Final = 100
"""A service that has lived for so many times the time between two looks hardly ends between them by design."""


def count_ends(earlier: ServiceRun, later: ServiceRun) -> int | None:
    """Return how often a service has ended and was started again by the system between two looks.

    A start by somebody (an installer, an administrator) is no such end, and begins systemd's count anew. None: the
    service runs another time, and the system does not say who started it.
    """
    is_other = earlier.run != later.run
    if later.restarts is None or earlier.restarts is None:
        return (1 if later.is_between else None) if is_other or later.is_between else 0
    ends = later.restarts - earlier.restarts
    if ends <= 0:
        ends = later.restarts if is_other else 0
    return ends + (later.is_between and not earlier.is_between)


def find_restarted_services(before: Services, after: Services) -> tuple[str, ...]:
    """Return the services that ran before and run another time now, whoever started them."""
    runs = {run.name: run for run in before.runs if not _LOGIN_UNITS.fullmatch(run.name)}
    return tuple(run.name for run in after.runs if run.name in runs and runs[run.name].run != run.run)


def has_looped(before: ServiceRun, life_seconds: float = _SHORT_LIFE_SECONDS) -> bool:
    """Return whether a service ended again and again before the run already, and lived no longer then than now."""
    if before.is_between:
        return True
    is_young = before.age_seconds is not None and before.age_seconds <= 2 * life_seconds
    return (before.restarts or 0) >= _LOOP_RESTARTS and is_young


def find_loops(before: Services) -> tuple[str, ...]:
    """Return the services that have ended again and again before the run, moments after each start."""
    return tuple(run.name for run in before.runs if has_looped(run))


class RunVerdict(Enum):
    """What became of a service that ran before patching, and runs again: the words of its finding."""

    LOOPS = UnitFault.CRASHES.value
    DIED = "ended since patching, and was started again"
    AS_BEFORE = "ends again and again, as before the run"
    RECOVERED = "ended while the machine was patched, was started again, and runs since"


def judge_run(before: ServiceRun, first: ServiceRun | None, second: ServiceRun, seconds: float) -> RunVerdict | None:
    """Return what became of a service, or None. ``first`` and ``second`` are of the looks; see ``check_runs``."""
    ends = _count_later_ends(before, first, second)
    is_old = first is not None and first.run == before.run and (before.restarts or 0) >= _LOOP_RESTARTS
    is_old = is_old and before.age_seconds is not None and before.age_seconds <= _USUAL_LIVES * seconds
    is_usual = ends == 1 and is_old and not second.is_between  # as of a worker that ends by design
    if is_usual or (ends and has_looped(before, max(_SHORT_LIFE_SECONDS, seconds / ends))):
        return RunVerdict.AS_BEFORE
    if ends:
        return RunVerdict.LOOPS if ends > 1 or second.is_between else RunVerdict.DIED
    return RunVerdict.RECOVERED if first is not None and count_ends(before, first) else None


def _count_later_ends(before: ServiceRun, first: ServiceRun | None, second: ServiceRun) -> int:
    """Return how often a service has ended since the first look. If it did not run then: since patching began."""
    ends = count_ends(first or before, second)
    if ends is None:  # an installer may have started it before the first look, and hardly since
        return int(first is not None and second.restarts_itself)
    return ends


def check_runs(before: Services, first: Services, second: Services, seconds: float) -> tuple[Finding, ...]:
    """Return the findings about services that ended after the first look, and were started again. Such an end blocks.

    What ended only before the first look, and has run since, is a remark: services fail while their neighbours are
    replaced. So is a service that ended in the same way before the run.

    Args:
        before: from just before the first change.
        first: from the first look after the last change.
        second: from the second look.
        seconds: between the two looks.
    """
    earlier, at_first = ({run.name: run for run in look.runs} for look in (before, first))
    names: dict[RunVerdict, list[str]] = {}
    for run in second.runs:
        old, middle = earlier.get(run.name), at_first.get(run.name)
        if old is None or _LOGIN_UNITS.fullmatch(run.name):
            continue
        verdict, ends = judge_run(old, middle, run, seconds), _count_later_ends(old, middle, run)
        if verdict is not None:
            names.setdefault(verdict, []).append(
                f"{run.name} ({ends} times in {seconds:.0f} s)" * (ends > 1) or run.name
            )
    return tuple(
        (Finding.block if verdict in {RunVerdict.LOOPS, RunVerdict.DIED} else Finding.remark)(
            UNITS_CHECK, f"{verdict.value}: {join_first_names(names[verdict])}", _READ_LOGS
        )
        for verdict in RunVerdict
        if verdict in names
    )


def has_ended_by_itself(status: UnitStatus, *, rebooted: bool) -> bool:
    """Return whether a service has run in this boot and has ended without an error."""
    is_over = (status.load, status.active) == ("loaded", "inactive") and not status.has_job
    return rebooted and status.is_service and status.was_active and is_over


def judge_unit(status: UnitStatus, before: Services, after: Services, *, rebooted: bool) -> UnitFault | None:
    """Return what is wrong with a unit, or None.

    It was active before, or has failed since.
    """
    if status.name in after.failed or status.active == "failed":
        return None if status.name in before.failed else UnitFault.FAILED
    return _judge(status, after.active_units, rebooted=rebooted)


def _judge(status: UnitStatus, active_units: Collection[str], *, rebooted: bool) -> UnitFault | None:
    if status.active in _ACTIVE_STATES:  # where systemd has no main process to watch, as of init scripts
        return UnitFault.ENDED if (status.kind, status.sub) == ("forking", "exited") else None
    if status.load == "masked":
        return UnitFault.MASKED
    if status.sub == "auto-restart":
        return UnitFault.CRASHES
    if status.has_job or status.active in {"activating", "deactivating"}:
        return UnitFault.STARTING
    if status.load == "not-found":
        return UnitFault.GONE
    is_wanted = any(name in active_units or name.endswith(".device") for name in status.wanted_by)
    return _judge_inactive(status, is_wanted=is_wanted, rebooted=rebooted)


def _judge_inactive(status: UnitStatus, *, is_wanted: bool, rebooted: bool) -> UnitFault | None:
    """Return what is wrong with a unit that is not active after a reboot, or that was stopped or ended without one."""
    if not rebooted and status.starts_on_demand:
        return None
    if not rebooted:
        return UnitFault.STOPPED if is_wanted else _judge_unwanted(status)
    if status.was_active:
        return UnitFault.STOPPED if is_wanted and not status.is_service else None
    if status.lacks_condition:
        return UnitFault.SKIPPED if status.is_service and not status.is_short else None
    return UnitFault.NOT_STARTED if is_wanted else _judge_unwanted(status)


def _judge_unwanted(status: UnitStatus) -> UnitFault | None:
    """Return what is wrong with a unit that is not active, and that nothing active starts: somebody had started it."""
    is_needed = not (status.starts_on_demand or status.is_short or status.name.endswith(".target"))
    return UnitFault.NOT_STARTED_BY_ITSELF if is_needed else None


def check_units(
    statuses: Sequence[UnitStatus], before: Services, after: Services, *, rebooted: bool
) -> Iterator[Finding]:
    """Return the findings about these units, one for each kind of fault, with their own words."""
    faults: dict[tuple[UnitFault, bool], list[UnitStatus]] = {}
    for status in statuses:
        fault = judge_unit(status, before, after, rebooted=rebooted)
        if fault is not None:
            is_mild = fault in _WARNINGS or (status.is_short and fault in {UnitFault.STARTING, UnitFault.STOPPED})
            faults.setdefault((fault, is_mild), []).append(status)
    for fault, is_mild in sorted(faults, key=lambda pair: (pair[1], list(UnitFault).index(pair[0]))):
        names = []
        for unit in faults[fault, is_mild]:
            unit_words = "; ".join(line.strip() for line in unit.words.splitlines() if line.strip())
            shown_words = unit_words if len(unit_words) <= _MAX_WORDS else f"{unit_words[:_MAX_WORDS]}…"
            names.append(f"{unit.name} ({shown_words})" if unit_words else unit.name)
        message = f"{fault.value}: {join_first_names(names)}"
        yield (Finding.warn if is_mild else Finding.block)(UNITS_CHECK, message, _REMEDIES[fault])


def find_starting_units(
    statuses: Sequence[UnitStatus], before: Services, after: Services, *, rebooted: bool
) -> tuple[str, ...]:
    """Return the units that become active, perhaps."""
    judged = ((status.name, judge_unit(status, before, after, rebooted=rebooted)) for status in statuses)
    return tuple(name for name, fault in judged if fault is UnitFault.STARTING)


_SWITCHED_BY_WINDOWS: Final = frozenset({"bits", "trustedinstaller"})
"""Windows starts these automatically while they have work, and by hand afterwards."""
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What Windows says of a service.

    Attributes:
        name: the name that was asked for.
        start: automatic, manual, disabled, trigger (by an event), unknown, or "" if Windows has no such service.
        status: Running, Stopped, StartPending, …
        exit_code: of one that has ended; None if it runs, and if that is not known.
    """

    name: str
    start: str = "automatic"
    status: str = "Stopped"
    is_late: bool = False
    exit_code: int | None = None

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self.status == "Running"


class ServiceFault(Enum):
    """What is wrong with a service that ran before patching: the words of its finding."""

    STOPPED = "ran before patching, and does not run now"
    DISABLED = "ran before patching, and disabled since"
    GONE = "ran before patching, and Windows does not have it any more"
    REPLACED = "ran before patching, and the service of that version is not there any more"
    MANUAL = "ran before patching, and not started since: only somebody starts it now"
    TRIGGERED = "ran before patching, and not started since: only an event starts it now"
    LATE = "ran before patching, starts late, and does not run; Windows does not say why"
    NOT_AT_BOOT = "runs, and is not started at the next boot: it was automatic before patching"


_SERVICE_REMEDIES: Final[Mapping[ServiceFault, str]] = {
    ServiceFault.STOPPED: "Read its events on the machine, repair it and start it.",
    ServiceFault.DISABLED: "Set how it starts as before (Set-Service), and start it. An update that failed leaves "
    "services disabled.",
    ServiceFault.GONE: "Look whether an update has removed or renamed it.",
    ServiceFault.REPLACED: "Look whether the service of the new version runs.",
    ServiceFault.MANUAL: "Start it if it is needed, and set how it starts as before (Set-Service).",
    ServiceFault.TRIGGERED: "Look on the machine whether it is needed now.",
    ServiceFault.LATE: "Look on the machine whether it has ended with an error.",
    ServiceFault.NOT_AT_BOOT: "Set how it starts as before (Set-Service), if it is needed.",
}
_FAULTS_OF_STOPPED: Final[Mapping[str, ServiceFault]] = {
    "disabled": ServiceFault.DISABLED,
    "manual": ServiceFault.MANUAL,
    "trigger": ServiceFault.TRIGGERED,
}
_BLOCKERS: Final = frozenset({ServiceFault.STOPPED, ServiceFault.DISABLED, ServiceFault.GONE})


def find_missing_services(before: Services, after: Services) -> tuple[str, ...]:
    """Return the services to ask for: those that ran before, and of which the facts now say nothing.

    A name may be written otherwise now: Windows does not tell upper case from lower case.
    """
    if not after.running:
        return ()
    return tuple(sorted(set(before.running) - {*after.running, *after.ended, *after.failed, *after.late}))


def judge_service(status: ServiceStatus, *, rebooted: bool) -> ServiceFault | None:
    """Return what is wrong with a service that ran before and was automatic, or None.

    After a reboot, what runs was started by something.
    """
    if status.start == "":
        return ServiceFault.REPLACED if _VERSION.search(status.name) else ServiceFault.GONE
    if status.start == "manual" and status.name.casefold() in _SWITCHED_BY_WINDOWS:
        return None
    if status.runs:
        is_left = status.start == "disabled" or (status.start == "manual" and not rebooted)
        return ServiceFault.NOT_AT_BOOT if is_left else None
    if status.start == "automatic" and status.is_late and not status.exit_code:
        return ServiceFault.LATE if status.exit_code is None else None
    return _FAULTS_OF_STOPPED.get(status.start, ServiceFault.STOPPED)


def check_service_starts(statuses: Sequence[ServiceStatus], *, rebooted: bool) -> Iterator[Finding]:
    """Return the findings about these services, one for each kind of fault."""
    faults: dict[ServiceFault, list[str]] = {}
    for status in statuses:
        fault = judge_service(status, rebooted=rebooted)
        if fault is not None:
            faults.setdefault(fault, []).append(status.name)
    for fault in sorted(faults, key=list(ServiceFault).index):
        build = Finding.block if fault in _BLOCKERS else Finding.warn
        yield build(UNITS_CHECK, f"{fault.value}: {join_first_names(faults[fault])}", _SERVICE_REMEDIES[fault])
