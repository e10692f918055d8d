"""Facts about a machine: read in one call, and validated before use."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.domain.errors import HostKeyMismatch, ProtocolViolation, UnsupportedSystem
from tasks.domain.model import Disk, Facts, Finding, Services
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptResult, Transport
from tasks.domain.services import ServiceRun
from tasks.domain.states import FindingLevel
from tasks.machines.managers.registry import MANAGER_COMMANDS, rank_managers
from tasks.rules.machine_checks.findings import PRIVILEGE_CHECK
from tasks.rules.machine_checks.listeners import ListeningSocket, find_service_listeners
from tasks.rules.machine_checks.machine_kind import CONTAINER_ENGINES, find_machine_kind
from tasks.rules.machine_checks.precheck import build_instance_id
from tasks.rules.machine_checks.report_limits import MAX_FINDINGS, require_count, require_within_limits
from tasks.rules.runs.reboot_decision import find_uptime
from tasks.steps.context.machine_context import MachineContext

_MAX_EPOCH_SECONDS = 1e11
"""Seconds since 1970, in the year 5138. A later clock or a longer uptime is not valid, and can't be formatted."""
_MAX_BYTES = 2**62
"""Limit for bytes and files: some file systems report any number, and the records store 64 bits."""
_MAX_LATE_START_SECONDS = 3600
"""Limit for the time after the boot at which a system starts its last services."""

MAX_ROUND_TRIP_SECONDS = 10.0
"""After such a round trip, the difference of the clocks is known to 5 seconds, the smallest that gives a warning."""


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _OsRecord(_Record):
    id: str
    like: str = ""
    version: str
    name: str
    support_end: str = ""


class _KernelRecord(_Record):
    release: str
    arch: str
    boot_id: str
    machine_id: str = ""
    installation: str = ""
    first_process: str = ""
    boot_work: str = ""
    uptime: float | None = Field(default=None, ge=0, lt=_MAX_EPOCH_SECONDS)
    boot_time: float | None = Field(default=None, gt=-_MAX_EPOCH_SECONDS, lt=_MAX_EPOCH_SECONDS)  # stopgaps are old


class _ClockRecord(_Record):
    epoch: float = Field(gt=0, lt=_MAX_EPOCH_SECONDS)


class _PrivilegeRecord(_Record):
    """The rights of the login. If they are too few: why, and the remedy."""

    way: str
    why: str = ""
    remedy: str = ""


class _RefusedRecord(_Record):
    """The system can't be patched at all."""

    why: str
    remedy: str = ""


class _FindingRecord(_Record):
    """What would stop a run ("block"), would endanger it ("warn"), is only to be mentioned ("remark"), or is "good"."""

    check: str = Field(pattern=r"^[a-z][a-z -]{0,30}$")
    level: Literal["good", "remark", "warn", "block"]
    message: str
    remedy: str = ""


class _RunnerRecord(_Record):
    name: str
    can_reboot: bool


class _HardwareRecord(_Record):
    vendor: str = ""
    product: str = ""
    model: str = ""
    xen: str = ""
    hypervisor: bool | None = None
    container: str = ""
    engines: str = ""
    arc: bool


class _DiskRecord(_Record):
    role: str
    mount: str
    total_kib: int = Field(ge=0)
    free_kib: int
    free_files: int | None = Field(default=None, ge=0)
    read_only: bool


class _NamedRecord(_Record):
    name: str = Field(min_length=1)


class _ManagerRecord(_NamedRecord):
    program: str = ""


class _SocketRecord(_NamedRecord):
    uid: int | None = None
    program: str = ""
    cgroup: str = ""


class _RunRecord(_NamedRecord):
    run: str
    restarts: int | None = Field(default=None, ge=0)
    age: float | None = None
    again: bool = False
    between: bool = False


class _RoutesRecord(_Record):
    default: str


class _RolesRecord(_Record):
    names: list[str]


class _PortsRecord(_Record):
    ephemeral: str
    reserved: str


class _ServicesRecord(_Record):
    failed_known: bool
    listening_known: bool
    running: list[str] = []
    ended: list[str] = []
    late: list[str] = []
    late_start: float = Field(default=0.0, ge=0, lt=_MAX_LATE_START_SECONDS)


_MAX_FINDING_LENGTH: Final = 500

_RecordType = TypeVar("_RecordType", bound=_Record)


def read_facts(
    transport: Transport, clock: Clock, deadline: Deadline, known: Facts | None = None, *, with_units: bool = False
) -> Facts:
    """Read the facts of a machine.

    ``known`` are the facts that this run has read before. ``with_units``: the active units of systemd are read, too.

    Raises:
        HostKeyMismatch: another machine answers than before.
        TransportError: the connection failed.
        ProtocolViolation: the answer is not valid; the message names the record.
        UnsupportedSystem: the machine says that it can't be patched.
        ReportTooLarge: it reports more than any real machine.
    """
    asked = clock.now()
    params: dict[str, ScriptParameter] = {"managers": MANAGER_COMMANDS, "units": "yes" if with_units else ""}
    answer = transport.run_script(Script("facts", params), deadline=deadline)
    answered = clock.now()
    for refused in _parse_records(answer, "refused", _RefusedRecord):
        raise UnsupportedSystem(_limit(refused.why), hint=_limit(refused.remedy))
    system = _parse_single_record(answer, "os", _OsRecord)
    kernel = _parse_single_record(answer, "kernel", _KernelRecord)
    runner = _parse_single_record(answer, "runner", _RunnerRecord)
    # The machine reads its clock between call and answer. The middle is wrong by at most half the round trip.
    middle = (asked.timestamp() + answered.timestamp()) / 2
    epoch = _parse_single_record(answer, "clock", _ClockRecord).epoch
    uptime = find_uptime(kernel.uptime, kernel.boot_time, epoch)
    rights = _parse_single_record(answer, "privilege", _PrivilegeRecord)
    lack = Finding(PRIVILEGE_CHECK, FindingLevel.BLOCK, _limit(rights.why), _limit(rights.remedy))
    too_few_rights = (lack,) if rights.why else ()
    _require_same_machine(known, kernel)
    facts = Facts(
        os_id=system.id,
        os_version=system.version,
        os_name=system.name,
        kernel=kernel.release,
        arch=kernel.arch,
        boot_id=kernel.boot_id,
        uptime_seconds=uptime or 0.0,
        clock_skew_seconds=epoch - middle,
        support_end=_read_day(system.support_end),
        clock_error_seconds=abs(answered.timestamp() - asked.timestamp()) / 2,
        privilege=rights.way,
        managers=rank_managers(
            {record.name: record.program for record in _parse_records(answer, "manager", _ManagerRecord)},
            (system.id, *system.like.split()),
        ),
        job_runner=runner.name,
        can_reboot=runner.can_reboot,
        disks=tuple(_to_disk(record) for record in _parse_records(answer, "disk", _DiskRecord)),
        services=_parse_services(answer),
        boot_epoch=None if uptime is None else epoch - uptime,
        findings=(*too_few_rights, *parse_findings(answer)),
        machine_id=kernel.machine_id,
        boot_work=_limit(kernel.boot_work),
        instance_id=_find_instance_id(system, kernel),
        roles=None if system.id == "windows" else (),  # no other system tells them
    )
    for routes in _parse_records(answer, "routes", _RoutesRecord):
        facts = replace(facts, default_routes=tuple(routes.default.split()))
    for roles in _parse_records(answer, "roles", _RolesRecord):
        facts = replace(facts, roles=tuple(roles.names))
    for hardware in list(_parse_records(answer, "hardware", _HardwareRecord))[:1]:
        facts = _add_kind(facts, hardware)
    require_within_limits(facts)
    return facts


def _add_kind(facts: Facts, hardware: _HardwareRecord) -> Facts:
    """Return the facts with what the machine is. A machine that does not say it keeps "unknown"."""
    kind = find_machine_kind(
        vendor=hardware.vendor,
        product=hardware.product,
        model=hardware.model,
        xen=hardware.xen,
        hypervisor=hardware.hypervisor,
        container=hardware.container,
    )
    engines = tuple(dict.fromkeys(engine for engine in hardware.engines.split() if engine in CONTAINER_ENGINES))
    return replace(facts, kind=kind, container_engines=engines, is_arc=hardware.arc)


def _read_day(text: str) -> str:
    """Return a date as "YYYY-MM-DD"; "" for anything else."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


def _find_instance_id(system: _OsRecord, kernel: _KernelRecord) -> str:
    if system.id == "windows":  # the id of its boot is drawn by lot, on each machine for itself
        return build_instance_id(kernel.machine_id, kernel.boot_id)
    return build_instance_id(kernel.installation, kernel.boot_id, kernel.first_process)


def _require_same_machine(known: Facts | None, kernel: _KernelRecord) -> None:
    """An address or a name may lead to another machine after a reboot: of a cluster, of a load balancer, by DHCP."""
    if known is None or not known.machine_id or not kernel.machine_id or known.machine_id == kernel.machine_id:
        return
    raise HostKeyMismatch(
        f"another machine answers than before in this run: its id is {_limit(kernel.machine_id)}, "
        f"and was {known.machine_id}",
        hint="Give the machine's own name or address, not that of a cluster or a load balancer. Is its lease (DHCP) or "
        "its name (DNS) another machine's now?",
    )


def read_facts_again(context: MachineContext) -> Facts:
    """Read the facts of a machine again, with its units and a clock difference that is safe for deadlines there.

    The difference of the clocks is known to half a round trip. If the answer took long (the connection hung, or this
    process was suspended), read once more. If that takes long too, assume the largest possible delay of the machine's
    clock, so that nothing on the machine begins too late. See ``read_facts`` for the errors.
    """
    clock, deadline = context.clock, context.build_read_deadline()
    for _ in range(2):
        asked = clock.now()
        facts = read_facts(context.transport, clock, deadline, context.known_facts, with_units=True)
        took = (clock.now() - asked).total_seconds()
        if 0 <= took <= MAX_ROUND_TRIP_SECONDS:
            return facts
    return replace(facts, clock_skew_seconds=facts.clock_skew_seconds - abs(took) / 2, clock_error_seconds=abs(took))


def parse_findings(answer: ScriptResult) -> tuple[Finding, ...]:
    """Return what a script reports as records "finding".

    Raises:
        ProtocolViolation: a record is not valid.
        ReportTooLarge: there are more of them than any real machine has.
    """
    require_count(len(answer.find_records("finding")), MAX_FINDINGS, "findings")
    records = _parse_records(answer, "finding", _FindingRecord)
    return tuple(
        Finding(record.check, FindingLevel(record.level), _limit(record.message), _limit(record.remedy))
        for record in records
    )


def _limit(text: str) -> str:
    return text if len(text) <= _MAX_FINDING_LENGTH else f"{text[:_MAX_FINDING_LENGTH]}…"


def _to_disk(record: _DiskRecord) -> Disk:
    return Disk(
        mount=record.mount,
        role=record.role,
        total_bytes=min(_MAX_BYTES, record.total_kib * 1024),
        free_bytes=min(_MAX_BYTES, max(0, record.free_kib) * 1024),  # negative if only administrators may still write
        free_files=None if record.free_files is None else min(_MAX_BYTES, record.free_files),
        read_only=record.read_only,
    )


def _parse_services(answer: ScriptResult) -> Services:
    services_record = _parse_single_record(answer, "services", _ServicesRecord)
    ports = next(iter(_parse_records(answer, "ports", _PortsRecord)), _PortsRecord(ephemeral="", reserved=""))
    sockets = (
        ListeningSocket(s.name, s.uid, s.program, s.cgroup) for s in _parse_records(answer, "socket", _SocketRecord)
    )
    service_listeners = find_service_listeners(sockets, ports.ephemeral, ports.reserved)
    return Services(
        failed=_parse_names(answer, "service"),
        listening=tuple(dict.fromkeys(listener.name for listener in service_listeners)),
        known=services_record.failed_known or services_record.listening_known,
        listeners=service_listeners,
        running=tuple(services_record.running),
        ended=tuple(services_record.ended),
        late=tuple(services_record.late),
        late_start_seconds=services_record.late_start,
        active_units=_parse_names(answer, "unit"),
        runs=tuple(
            ServiceRun(record.name, record.run, record.restarts, record.age, record.again, record.between)
            for record in _parse_records(answer, "run", _RunRecord)
        ),
    )


def _parse_names(answer: ScriptResult, kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(record.name for record in _parse_records(answer, kind, _NamedRecord)))


def _parse_single_record(answer: ScriptResult, kind: str, model: type[_RecordType]) -> _RecordType:
    records = tuple(_parse_records(answer, kind, model))
    if len(records) != 1:
        raise ProtocolViolation(
            f"the machine's facts have {len(records)} records '{kind}' where one is due "
            f"(exit code {answer.exit_code}): {answer.unframed_output[-500:]}",
            hint="Look at what the shell of that login does on that machine (/bin/sh and awk, or PowerShell).",
        )
    return records[0]


def _parse_records(answer: ScriptResult, kind: str, model: type[_RecordType]) -> Iterable[_RecordType]:
    for record in answer.find_records(kind):
        try:
            yield model.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ProtocolViolation(
                f"the machine's facts can't be understood: {kind}.{where}: {first['msg']} ({first['input']!r:.200})"
            ) from error
