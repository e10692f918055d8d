"""Judges Windows services that ran before patching, and that are not among those that Windows starts now. Pure.

An update may leave a service disabled, start it otherwise, or remove it. Then nothing has failed, and it does not run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.model import Finding, Services
from tasks.rules.machine_checks.findings import build_blocker, build_warning

_CHECK: Final = "services"
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
        is_late: its automatic start is delayed.
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


_REMEDIES: Final[Mapping[ServiceFault, str]] = {
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

    Args:
        status: of the service, now.
        rebooted: whether the machine was rebooted since: what runs then was started by something.
    """
    if status.start == "":
        return ServiceFault.REPLACED if _VERSION.search(status.name) else ServiceFault.GONE
    if status.start == "manual" and status.name.casefold() in _SWITCHED_BY_WINDOWS:
        return None
    return _judge_running(status, rebooted=rebooted) if status.runs else _judge_stopped(status)


def _judge_running(status: ServiceStatus, *, rebooted: bool) -> ServiceFault | None:
    is_left = status.start == "disabled" or (status.start == "manual" and not rebooted)
    return ServiceFault.NOT_AT_BOOT if is_left else None


def _judge_stopped(status: ServiceStatus) -> ServiceFault | None:
    if status.start == "automatic" and status.is_late and not status.exit_code:
        return ServiceFault.LATE if status.exit_code is None else None
    return _FAULTS_OF_STOPPED.get(status.start, ServiceFault.STOPPED)


def check_service_starts(statuses: Sequence[ServiceStatus], *, rebooted: bool) -> Iterator[Finding]:
    """Return the findings about these services, one for each kind of fault.

    Args:
        statuses: of the services that find_missing_services names.
        rebooted: whether the machine was rebooted since they ran.
    """
    faults: dict[ServiceFault, list[str]] = {}
    for status in statuses:
        fault = judge_service(status, rebooted=rebooted)
        if fault is not None:
            faults.setdefault(fault, []).append(status.name)
    for fault in sorted(faults, key=list(ServiceFault).index):
        build = build_blocker if fault in _BLOCKERS else build_warning
        yield build(_CHECK, f"{fault.value}: {join_first_names(faults[fault])}", _REMEDIES[fault])
