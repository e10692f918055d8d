"""Lists the snapshots of machines as their providers have them, adopts and deletes those that runs have taken.

A snapshot is deleted by its sealed record only, if no unfinished run may need it, and only where its machine still has
the provider that took it. Adopting one makes such a record. Snapshots of others are told, and never touched.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from flows.composition import open_ports
from flows.machine_visits import visit_machines
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from flows.request.read_requests import AssessRequest
from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.errors import DisksTakenBack, FleetpatchError, ProviderError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.machine_provider import WatchedProvider
from tasks.domain.provided_machines import (
    OPEN_SNAPSHOT_STATES,
    ProvidedMachine,
    ProviderAct,
    ProviderOrder,
    Snapshot,
    SnapshotState,
)
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.records.queries.runs import find_runs_in_need
from tasks.records.setup import open_records
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.rules.runs.snapshots import SNAPSHOT_PREFIX

READ_SECONDS: Final = 300.0
DELETE_SECONDS: Final = 3600.0
AT_ONCE: Final = 10
_MISSED: Final = "its provider does not list it, and fleetpatch has not deleted it: it is looked for once more"

logger = logging.getLogger(__name__)


class Standing(StrEnum):
    """What a snapshot is to fleetpatch."""

    KEPT = "Kept"
    EXPIRED = "Expired"
    MISSING = "Missing"  # the records have it, and its provider does not
    UNRECORDED = "Unrecorded"  # it has the name of one, and these records do not have it
    FOREIGN = "Foreign"  # somebody else has taken it
    UNREAD = "Unread"  # its provider did not say
    UNUSABLE = "Unusable"  # its provider has it, and nothing can be put back by it
    TAKEN_BACK = "TakenBack"  # somebody has taken back what fleetpatch has done to the disks of the machine


FORGOTTEN: Final = frozenset({Standing.EXPIRED, Standing.UNRECORDED, Standing.UNREAD, Standing.UNUSABLE})
"""What a person should look at."""


@dataclass(frozen=True, slots=True)
class SeenSnapshot:
    """One snapshot of a machine."""

    machine: str
    id: str  # what its provider calls it; "": the machine could not be read, and has none in the records
    standing: Standing
    row: SnapshotRow | None = None  # what the records have of it; None: nothing
    found: Snapshot | None = None  # as its provider has it; None: it does not have it, or did not say
    message: str = ""  # why its provider did not say, or why nothing can be put back by it, or ""
    remedy: str = ""  # what to do where the disks were taken back

    @property
    def taken_at(self) -> datetime | None:
        """When it was taken, by its provider or else by the records."""
        at = self.found.taken_at if self.found is not None else None
        return at or (self.row.ordered_at if self.row is not None else None)

    @property
    def used_bytes(self) -> int | None:
        """How much room it takes; None: not known."""
        return self.found.used_bytes if self.found is not None else None


class DeletionState(StrEnum):
    """What became of something at a provider that is to be deleted."""

    DELETED = "Deleted"
    GONE = "Gone"  # it was not there any more
    REFUSED = "Refused"  # it may not be deleted
    FAILED = "Failed"  # it may still be there


class AdoptionState(StrEnum):
    """What became of a machine, or of a snapshot of it, that is to be adopted."""

    RESTORED = "Restored"  # what somebody had taken back is as it was, or counts as right
    ADOPTED = "Adopted"  # the records have the snapshot from now on
    REFUSED = "Refused"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of a snapshot, or a copy of a machine, that is to be deleted or adopted."""

    machine: str
    id: str  # "": the machine itself
    state: DeletionState | AdoptionState
    message: str = ""


def look_at_snapshots(machines: Sequence[Machine], ports: Ports, store: SqlSnapshots) -> tuple[SeenSnapshot, ...]:
    """Return the snapshots of machines, as their providers and the records have them."""
    known = {row.machine for row in store.read_open()}
    asked = [machine for machine in machines if machine.provider or machine.name in known]

    def look(machine: Machine) -> list[SeenSnapshot]:
        return _look(machine, ports, store)

    return tuple(seen for of_machine in visit_machines(asked, AT_ONCE, look) for seen in of_machine)


def _look(machine: Machine, ports: Ports, store: SqlSnapshots) -> list[SeenSnapshot]:
    """Return the snapshots of a machine. Its rows are read last: a run stores its snapshot before it orders it."""
    try:
        provided = _read(machine, ports)
    except DisksTakenBack as error:
        return [SeenSnapshot(machine.name, "", Standing.TAKEN_BACK, message=error.message, remedy=error.hint)]
    except FleetpatchError as error:
        rows = store.read_open(machine.name)
        unread = [SeenSnapshot(machine.name, row.snapshot, Standing.UNREAD, row, None, error.message) for row in rows]
        return unread or [SeenSnapshot(machine.name, "", Standing.UNREAD, message=error.message)]
    return list(judge_snapshots(machine.name, provided, store.read_open(machine.name), ports.clock.now()))


def judge_snapshots(
    machine: str, provided: ProvidedMachine, rows: Iterable[SnapshotRow], now: datetime
) -> Iterable[SeenSnapshot]:
    """Yield what each snapshot of a machine is: those that the records have first. Pure.

    ``rows`` are those of the machine's snapshots that may exist.
    """
    known = {row.snapshot: row for row in rows}
    for snapshot_id, row in known.items():
        snapshot = provided.find_snapshot(snapshot_id)
        fault = snapshot.fault if snapshot is not None else ""
        standing = Standing.EXPIRED if row.expires_at <= now else Standing.UNUSABLE if fault else Standing.KEPT
        standing = Standing.MISSING if snapshot is None else standing
        yield SeenSnapshot(machine, snapshot_id, standing, row, snapshot, fault)
    for snapshot in provided.snapshots:
        if snapshot.id not in known:
            standing = Standing.UNRECORDED if snapshot.id.startswith(SNAPSHOT_PREFIX) else Standing.FOREIGN
            yield SeenSnapshot(machine, snapshot.id, standing, None, snapshot)


def _read(machine: Machine, ports: Ports) -> ProvidedMachine:
    provider = ports.open_provider(machine)
    if provider is None:
        raise ProviderError("its inventory entry has no `provider`", hint="Give it one.")
    return provider.read_machine(deadline=Deadline.after(ports.clock, READ_SECONDS))


def delete_snapshots(
    rows: Sequence[SnapshotRow],
    ports: Ports,
    store: SqlSnapshots,
    find_runs_in_need: Callable[[SnapshotRow], Sequence[str]],
) -> tuple[Handled, ...]:
    """Delete snapshots that runs have taken, one after the other. What is in doubt stays, with the reason.

    The sealed record of each is read again. ``find_runs_in_need`` returns the unfinished runs that may need it.
    """
    return tuple(_delete_safely(row, ports, store, find_runs_in_need) for row in rows)


def _delete_safely(
    row: SnapshotRow, ports: Ports, store: SqlSnapshots, find_runs_in_need: Callable[[SnapshotRow], Sequence[str]]
) -> Handled:
    make = functools.partial(Handled, row.machine, row.snapshot)
    try:
        sealed = store.find_sealed(row.snapshot, row.machine)
        if sealed is None:
            return make(DeletionState.REFUSED, "the records do not have it any more")
        if runs := find_runs_in_need(sealed):
            return make(DeletionState.REFUSED, f"run {runs[0]} is not over, and may need it")
        return _delete(sealed, find_machine(sealed.machine, sealed.provider, ports), ports, store)
    except FleetpatchError as error:
        logger.info("%s: the snapshot %s could not be deleted: %s", row.machine, row.snapshot, error.message)
        return make(DeletionState.FAILED, error.message)


def find_machine(name: str, provider: str, ports: Ports) -> Machine:
    """Return a machine of the inventory. Raise ProviderError if it is not there, or has another provider."""
    try:
        machine = ports.inventory.find_machine(name)
    except KeyError:
        raise ProviderError(
            "its machine is not in the inventory any more: put it there again, or delete it at its provider"
        ) from None
    if machine.provider != provider:
        now = machine.provider or "none"
        raise ProviderError(f"{provider} has it, and the provider of its machine is {now}: delete it there")
    return machine


def _delete(row: SnapshotRow, machine: Machine, ports: Ports, store: SqlSnapshots) -> Handled:
    """Delete a snapshot, and store what became of it. Raise FleetpatchError if that is not known."""

    def finish(state: DeletionState, saved: SnapshotState, message: str = "") -> Handled:
        store.save(replace(row, state=saved, changed_at=ports.clock.now(), note=message))
        return Handled(row.machine, row.snapshot, state, message)

    if _read(machine, ports).find_snapshot(row.snapshot) is None:
        latest = store.find_sealed(row.snapshot, row.machine) or row
        if latest.state not in OPEN_SNAPSHOT_STATES:
            return Handled(row.machine, row.snapshot, DeletionState.GONE, "another process has deleted it")
        is_second = row.note == _MISSED
        return finish(DeletionState.GONE, SnapshotState.GONE if is_second else row.state, "" if is_second else _MISSED)
    provider = ports.open_provider(machine)
    if provider is None or ProviderAct.DELETE_SNAPSHOT not in provider.acts:
        return finish(DeletionState.FAILED, row.state, "its provider can't delete snapshots: do it there")
    reason = ""
    try:
        order = ProviderOrder(ProviderAct.DELETE_SNAPSHOT, row.snapshot)
        provider.carry_out(order, deadline=Deadline.after(ports.clock, DELETE_SECONDS))
    except FleetpatchError as error:
        reason = error.message
    if _read(machine, ports).find_snapshot(row.snapshot) is None:
        return finish(DeletionState.DELETED, SnapshotState.DELETED)
    return finish(DeletionState.FAILED, row.state, f"it is still there: {reason or 'the provider gave no reason'}")


def adopt_snapshots(
    machines: Iterable[Machine], ports: Ports, store: SqlSnapshots, keep: timedelta, *, as_it_is: bool
) -> Iterator[Handled]:
    """End what was taken back on machines, and record snapshots of runs that these records do not have.

    Args:
        machines: those without a provider are left out.
        ports: with the providers.
        store: of the records.
        keep: after which an adopted snapshot is deleted.
        as_it_is: machines are right as they are, also where somebody has taken something back.
    """
    for machine in machines:
        if not machine.provider:
            continue
        make = functools.partial(Handled, machine.name)
        try:
            provider = ports.open_provider(machine)
            if provider is not None and isinstance(provider, WatchedProvider):
                done = provider.adopt(as_it_is=as_it_is, deadline=Deadline.after(ports.clock, READ_SECONDS))
                if done:
                    yield make("", AdoptionState.RESTORED, done)
            for row in find_unrecorded(machine, ports, store, keep):
                if record_found(row, ports, store):
                    until = f"{row.expires_at:%Y-%m-%d %H:%M} UTC"
                    yield make(row.snapshot, AdoptionState.ADOPTED, f"kept until {until}")
        except DisksTakenBack as error:
            yield make("", AdoptionState.REFUSED, f"{error.message}\n{error.hint}")
        except FleetpatchError as error:
            yield make("", AdoptionState.FAILED, error.message)


def find_unrecorded(machine: Machine, ports: Ports, store: SqlSnapshots, keep: timedelta) -> tuple[SnapshotRow, ...]:
    """Return rows, not stored yet, of snapshots of runs that a machine has and these records do not.

    A row of an earlier name of the machine tells the run and the end; ``keep`` is for a snapshot without one. The
    records are read after the provider: a run stores its snapshot before it orders it.

    Raises:
        FleetpatchError: the provider does not say.
    """
    provided, now = _read(machine, ports), ports.clock.now()
    opened = store.read_open()
    own = [row for row in opened if row.machine == machine.name]
    seen = judge_snapshots(machine.name, provided, own, now)
    rows = []
    for snapshot in (one.found for one in seen if one.standing is Standing.UNRECORDED and one.found is not None):
        row = SnapshotRow(
            snapshot=snapshot.id,
            machine=machine.name,
            provider=machine.provider,
            run_id="",
            ordered_at=snapshot.taken_at or now,
            expires_at=now + keep,
            state=SnapshotState.TAKEN,
            consistency=snapshot.consistency,
            used_bytes=snapshot.used_bytes,
            changed_at=now,
            note="",
        )
        other = next((one for one in opened if _is_renamed(one, row, ports)), None)
        sealed = store.find_sealed(other.snapshot, other.machine) if other is not None else None
        rows.append(replace(sealed or row, machine=machine.name))
    return tuple(rows)


def _is_renamed(earlier: SnapshotRow, row: SnapshotRow, ports: Ports) -> bool:
    """Return whether a row is of the same snapshot, and of a machine that the inventory no longer has there.

    Machines that hold their disks themselves all have one provider, and a clone has the snapshots of its original.
    """
    if (earlier.snapshot, earlier.provider) != (row.snapshot, row.provider):
        return False
    return all(
        (machine.name, machine.provider) != (earlier.machine, earlier.provider) for machine in ports.inventory.machines
    )


def record_found(row: SnapshotRow, ports: Ports, store: SqlSnapshots) -> bool:
    """Record a snapshot that was found; an earlier name of its machine does not have it any more.

    Return whether it was recorded: if the records have it meanwhile, it is that of a run.
    """
    opened = store.read_open()
    if any((other.snapshot, other.machine) == (row.snapshot, row.machine) for other in opened):
        return False
    for other in opened:
        if _is_renamed(other, row, ports):
            note = f"{row.machine} has it"
            store.save(replace(other, state=SnapshotState.GONE, changed_at=row.changed_at, note=note))
    store.save(row)
    return True


def open_snapshots(records: SqlRecords) -> SqlSnapshots:
    """Return the snapshots of the records."""
    return SqlSnapshots(records.database, records.seals)


def delete_expired_snapshots(caller: Caller) -> tuple[Handled, ...]:
    """Delete the snapshots whose time is over, by the inventory of this controller. Without any, nothing is opened.

    Raises:
        FleetpatchError: the records or the inventory can't be read.
    """
    with open_records(caller.records_url) as records:
        store = open_snapshots(records)
        expired = store.find_expired(SystemClock().now())
        if not expired:
            return ()
        with open_ports(AssessRequest(scope="*"), caller) as ports:
            return delete_snapshots(expired, ports, store, functools.partial(find_runs_in_need, records.database))
