"""What fleetpatch has left on a machine, and its removal."""

from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.transport import Script, Transport
from tasks.steps.machine.machine_lock import split_lock_holder

CLEAN_TIMEOUT_SECONDS: Final = 180.0
_PACKAGE: Final = "tasks.machines.managers.windows_update"
"""The package with the script for Windows; that for other systems is in the package around it."""


@dataclass(frozen=True, slots=True)
class Remain:
    """A thing on a machine."""

    what: str  # its kind, in a word or two; "" for what is not fleetpatch's
    path: str
    why: str = ""  # why it was left, or could not be removed; "" for neither


@dataclass(frozen=True, slots=True)
class Remains:
    """What a machine has answered.

    Attributes:
        found: what is fleetpatch's and is there.
        left: what is not fleetpatch's, or not this controller's.
        runs: the runs that have left jobs there, or had the machine lock last.
        lock_fields: run, attempt and end of the machine lock, as the machine wrote them.
        refusal: why nothing may be removed; "": it may.
        has_changed: whether something has changed since it was looked at. Then nothing was removed.
    """

    found: tuple[Remain, ...] = ()
    removed: tuple[Remain, ...] = ()
    failed: tuple[Remain, ...] = ()
    left: tuple[Remain, ...] = ()
    runs: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    lock_fields: str = ""
    refusal: str = ""
    restored: tuple[str, ...] = ()
    has_changed: bool = False


def read_remains(machine: str, transport: Transport, clock: Clock, own_broker_key: str) -> Remains:
    """Return what fleetpatch has left on a machine. Changes nothing.

    ``own_broker_key`` is the public key of this controller's broker; "": it has none.

    Raises:
        TransportError: the machine could not be asked.
        ProtocolViolation: its answer is not valid.
    """
    return _run_clean_script(machine, transport, clock, {"broker": own_broker_key}, read_only=True)


def remove_remains(machine: str, seen: Remains, transport: Transport, clock: Clock, own_broker_key: str) -> Remains:
    """Remove what was seen before, and return what became of it.

    Raises:
        TransportError: the machine could not be asked: a part may have been removed. It can be repeated.
        ProtocolViolation: its answer is not valid.
    """
    parameters: dict[str, str | tuple[str, ...]] = {"remove": "yes", "lock": seen.lock_fields, "jobs": seen.jobs}
    return _run_clean_script(machine, transport, clock, {**parameters, "broker": own_broker_key}, read_only=False)


def _run_clean_script(
    machine: str, transport: Transport, clock: Clock, params: dict[str, str | tuple[str, ...]], *, read_only: bool
) -> Remains:
    script = Script("clean", params, read_only=read_only, package=_PACKAGE)
    answer = transport.run_script(script, deadline=Deadline.after(clock, CLEAN_TIMEOUT_SECONDS))
    locks, jobs, refused = (answer.find_records(kind) for kind in ("lock", "job", "refused"))
    if not locks and not refused:
        raise ProtocolViolation("it does not say who has its lock", machine=machine)

    def read_things(kind: str) -> tuple[Remain, ...]:
        return tuple(
            Remain(*(str(record.get(name) or "") for name in ("what", "path", "why")))
            for record in answer.find_records(kind)
        )

    runs = dict.fromkeys(split_lock_holder(record.get("run"))[0] for record in (*locks, *jobs))
    return Remains(
        found=read_things("item"),
        removed=read_things("removed"),
        failed=read_things("failed"),
        left=read_things("left"),
        runs=tuple(run for run in runs if run),
        jobs=tuple(str(job.get("id")) for job in jobs),
        lock_fields=" ".join(str(locks[0].get(name, "")) for name in ("run", "attempt", "until")) if locks else "",
        refusal=str(refused[0].get("why") or "") if refused else "",
        restored=tuple(f"{record.get('unit')}: {record.get('how')}" for record in answer.find_records("updater")),
        has_changed=bool(answer.find_records("changed")),
    )
