"""Facts: what a machine says of itself, asked in one round trip and believed only when it makes sense."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import ProtocolViolation
from tasks.model import Disk, Facts, Services
from tasks.rules.listeners import Socket, listeners
from tasks.seams.clock import Clock, Deadline
from tasks.seams.transport import Script, ScriptResult, Transport

_LATEST = 1e11
"""Seconds since 1970, in the year 5138: a clock or an uptime beyond is nonsense, and no calendar could show it."""
_MOST = 2**62
"""Of bytes or inodes: some file systems claim any number, and records hold 64 bits."""


PROMPT_SECONDS = 10.0
"""A round trip that is no longer tells the difference of two clocks to 5 seconds, which is all that is warned of."""


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Os(_Record):
    id: str
    version: str
    name: str


class _Kernel(_Record):
    release: str
    arch: str
    boot_id: str
    uptime: float | None = Field(default=None, ge=0, lt=_LATEST)


class _Clock(_Record):
    epoch: float = Field(gt=0, lt=_LATEST)


class _Privilege(_Record):
    way: str


class _Runner(_Record):
    name: str
    can_reboot: bool


class _Disk(_Record):
    role: str
    mount: str
    total_kib: int = Field(ge=0)
    free_kib: int
    free_inodes: int | None = Field(default=None, ge=0)
    read_only: bool


class _Named(_Record):
    name: str = Field(min_length=1)


class _Socket(_Named):
    uid: int | None = None
    program: str = ""
    cgroup: str = ""


class _Ports(_Record):
    ephemeral: str
    reserved: str


class _Services(_Record):
    failed_known: bool
    listening_known: bool


_Model = TypeVar("_Model", bound=_Record)


def read_facts(transport: Transport, clock: Clock, deadline: Deadline) -> Facts:
    """Ask a machine for its facts.

    Raises:
        TransportError: the way to it failed.
        ProtocolViolation: what it said makes no sense; the message names the record.
    """
    asked = clock.now()
    answer = transport.run(Script("facts"), deadline=deadline)
    answered = clock.now()
    system = _only(answer, "os", _Os)
    kernel = _only(answer, "kernel", _Kernel)
    runner = _only(answer, "runner", _Runner)
    # The machine read its clock between question and answer: the middle is off by half the round trip at most.
    middle = (asked.timestamp() + answered.timestamp()) / 2
    epoch = _only(answer, "clock", _Clock).epoch
    return Facts(
        os_id=system.id,
        os_version=system.version,
        os_name=system.name,
        kernel=kernel.release,
        arch=kernel.arch,
        boot_id=kernel.boot_id,
        uptime_seconds=kernel.uptime or 0.0,
        clock_skew_seconds=epoch - middle,
        privilege=_only(answer, "privilege", _Privilege).way,
        managers=_names(answer, "manager"),
        job_runner=runner.name,
        can_reboot=runner.can_reboot,
        disks=tuple(_disk(found) for found in _all(answer, "disk", _Disk)),
        services=_services(answer),
        boot_epoch=None if kernel.uptime is None else epoch - kernel.uptime,
    )


def timed_facts(transport: Transport, clock: Clock, deadline: Deadline) -> Facts:
    """Ask a machine for its facts, among them a clock that deadlines on the machine can be told in.

    The difference of the clocks is known to half a round trip. When the answer took long (the line hung, or this
    process was held up) it is asked once more; and when that takes long too, the machine's clock is taken for as far
    behind as it may be, so that nothing on the machine begins later than it may.

    Raises:
        TransportError: the way to it failed.
        ProtocolViolation: what it said makes no sense; the message names the record.
    """
    for _ in range(2):
        asked = clock.now()
        facts = read_facts(transport, clock, deadline)
        took = (clock.now() - asked).total_seconds()
        if 0 <= took <= PROMPT_SECONDS:
            return facts
    return replace(facts, clock_skew_seconds=facts.clock_skew_seconds - abs(took) / 2)


def _disk(found: _Disk) -> Disk:
    return Disk(
        mount=found.mount,
        role=found.role,
        total_bytes=min(_MOST, found.total_kib * 1024),
        free_bytes=min(_MOST, max(0, found.free_kib) * 1024),  # below zero when only root may still write
        free_inodes=None if found.free_inodes is None else min(_MOST, found.free_inodes),
        read_only=found.read_only,
    )


def _services(answer: ScriptResult) -> Services:
    told = _only(answer, "services", _Services)
    ports = next(iter(_all(answer, "ports", _Ports)), _Ports(ephemeral="", reserved=""))
    sockets = (Socket(s.name, s.uid, s.program, s.cgroup) for s in _all(answer, "socket", _Socket))
    found = listeners(sockets, ports.ephemeral, ports.reserved)
    return Services(
        failed=_names(answer, "service"),
        listening=tuple(dict.fromkeys(each.name for each in found)),
        known=told.failed_known or told.listening_known,
        listeners=found,
    )


def _names(answer: ScriptResult, kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found.name for found in _all(answer, kind, _Named)))


def _only(answer: ScriptResult, kind: str, model: type[_Model]) -> _Model:
    found = tuple(_all(answer, kind, model))
    if len(found) != 1:
        raise ProtocolViolation(
            f"the machine's facts have {len(found)} records '{kind}' where one is due "
            f"(exit code {answer.exit_code}): {answer.noise[-500:]}",
            hint="Look at what /bin/sh and awk do on that machine.",
        )
    return found[0]


def _all(answer: ScriptResult, kind: str, model: type[_Model]) -> Iterable[_Model]:
    for record in answer.of_kind(kind):
        try:
            yield model.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ProtocolViolation(
                f"the machine's facts make no sense: {kind}.{where}: {first['msg']} ({first['input']!r:.200})"
            ) from error
