"""The provider of a machine of libvirt."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings, find_provider_machine_id
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Deadline
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    KeptDisk,
    PowerState,
    ProvidedDisk,
    ProvidedMachine,
    ProviderAct,
    ProviderNotes,
    ProviderOrder,
    Snapshot,
)
from tasks.machines.providers.host_commands import HostCommands
from tasks.machines.providers.libvirt.domain import Domain, DomainDisk
from tasks.machines.providers.libvirt.notes import describe_notes, explain_way_back, find_left
from tasks.machines.providers.libvirt.os_disk import delete_os_disk, replace_os_disk, restore_os_disk, rewrite_seed
from tasks.machines.providers.libvirt.overlay import CopyMaker
from tasks.machines.providers.libvirt.snapshots import delete_snapshot, revert, take_snapshot
from tasks.machines.providers.libvirt.state import DomainState, SavedSnapshot, read_any_state
from tasks.machines.providers.libvirt.virsh import Virsh
from tasks.machines.providers.libvirt.work import SHUTDOWN_SECONDS, DomainWork
from tasks.machines.providers.registry import ProviderPorts

_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _start(work: DomainWork, _order: ProviderOrder) -> str:
    if work.domain.power is PowerState.STOPPED:
        work.virsh.order("start", deadline=work.deadline)
    elif work.domain.power is PowerState.PAUSED:
        work.virsh.order("resume", deadline=work.deadline)
    return ""


def _stop(work: DomainWork, _order: ProviderOrder) -> str:
    if work.domain.power is not PowerState.STOPPED and not work.shut_down(work.deadline):
        raise ProviderError(f"{work.domain.name} did not shut down in time", hint="Cut its power, if that is right.")
    return ""


def _power_off(work: DomainWork, _order: ProviderOrder) -> str:
    if work.domain.power is not PowerState.STOPPED:
        work.cut_power()
    return ""


_ACTS: Final[Mapping[ProviderAct, Callable[[DomainWork, ProviderOrder], str]]] = {
    ProviderAct.TAKE_SNAPSHOT: take_snapshot,
    ProviderAct.REVERT: revert,
    ProviderAct.DELETE_SNAPSHOT: delete_snapshot,
    ProviderAct.REPLACE_OS_DISK: replace_os_disk,
    ProviderAct.RESTORE_OS_DISK: restore_os_disk,
    ProviderAct.DELETE_OS_DISK: delete_os_disk,
    ProviderAct.REWRITE_SEED: rewrite_seed,
    ProviderAct.START: _start,
    ProviderAct.STOP: _stop,
    ProviderAct.POWER_OFF: _power_off,
}
_WITHOUT_ID: Final = frozenset({ProviderAct.START, ProviderAct.STOP, ProviderAct.POWER_OFF})


class LibvirtProvider:
    """A machine of libvirt. See MachineProvider."""

    kind = ProviderKind.LIBVIRT.value

    def __init__(
        self, virsh: Virsh, shutdown_seconds: float = SHUTDOWN_SECONDS, copy_maker: CopyMaker | None = None
    ) -> None:
        """``shutdown_seconds`` is how long a machine has to go off before its OS disk is changed."""
        self._virsh, self.find_there = virsh, virsh.find_there
        self._copy_maker = copy_maker
        self._acts = dict(_ACTS)
        if copy_maker is not None:
            self._acts |= {ProviderAct.START_OVERLAY: copy_maker.start, ProviderAct.DELETE_OVERLAY: copy_maker.delete}
        self._shutdown_seconds = shutdown_seconds

    @property
    def acts(self) -> frozenset[ProviderAct]:
        """What it can be asked to do."""
        return frozenset(self._acts)

    def read_machine(self, *, deadline: Deadline) -> ProvidedMachine:
        """Return the machine as it is now."""
        domain = self._virsh.read_domain(deadline)
        unread = set(domain.unread_paths)
        existing = [
            snapshot
            for snapshot in domain.state.snapshots
            if domain.has_state(snapshot) or snapshot.is_going or (snapshot.is_taken and _get_paths(snapshot) & unread)
        ]
        used = domain.find_paths_below(domain.used_paths)
        kept = [
            KeptDisk(saved.id, saved.file.path, domain.state.find_origin(saved.file.path).version)
            for saved in domain.state.kept_disks
            if saved.file.path not in used
        ]
        return ProvidedMachine(
            domain.name,
            domain.power,
            (
                *(_describe_disk(domain, disk) for disk in domain.disks),
                *(ProvidedDisk(target, DiskRole.UNKNOWN, source) for target, source in domain.live_only.items()),
            ),
            (
                *(_describe_snapshot(domain, snapshot) for snapshot in existing),
                *(Snapshot(foreign.id, foreign.taken_at) for foreign in domain.foreign_snapshots),
            ),
            tuple(kept),
            self._copy_maker.read(self._virsh, domain, deadline) if self._copy_maker is not None else None,
            domain.explain_no_snapshot(),
            domain.identity,
            describe_notes(domain),
        )

    def explain_way_back(self, known: ProviderNotes, *, deadline: Deadline) -> str:
        """See NoteKeeper."""
        return explain_way_back(self._virsh, known, deadline)

    def renew_notes(self, known: ProviderNotes, *, is_restored: bool, deadline: Deadline) -> Sequence[str]:
        """See NoteKeeper."""
        work, before = DomainWork(self._virsh, deadline), DomainState()
        if not is_restored:
            work.require_settled()
        with suppress(*(() if is_restored else (ProviderError,))):
            before = read_any_state(known.text, work.domain.name)
        # What an older definition has for removal may be needed now.
        present = replace(work.domain.state, doomed=(), seeds=())
        with _hold(work, "adopt"):
            work.renew(known, before if is_restored else present)
        return find_left(self._virsh, known, before, deadline)

    def carry_out(self, order: ProviderOrder, *, deadline: Deadline) -> str:
        """Carry an order out. Return a note for the report, or ""."""
        act = self._acts.get(order.act)
        if act is None:
            raise ProviderError(f"{self._virsh.name}: libvirt can't do {order.act}")
        if order.act not in _WITHOUT_ID and not _ID_PATTERN.fullmatch(order.id):
            hint = "Use letters, digits, and . _ - in it, at most 100."
            raise ProviderError(f"{self._virsh.name}: {order.id!r} can't be the id of an order", hint=hint)
        work = DomainWork(self._virsh, deadline, self._shutdown_seconds)
        if order.act in _ACTS.keys() - _WITHOUT_ID:
            with _hold(work, f"{order.act} {order.id}"):
                return act(work, order)
        if order.act is ProviderAct.START:
            work.require_no_other()
        return act(work, order)


@contextmanager
def _hold(work: DomainWork, order: str) -> Iterator[None]:
    """Begin an order, and end it, whether it succeeds or not."""
    work.begin(order)
    try:
        yield
    except BaseException:
        with suppress(ProviderError):  # it counts as dead at the end of its time
            work.end()
        raise
    work.end()


def open_libvirt(settings: ProviderSettings, machine: Machine, ports: ProviderPorts) -> LibvirtProvider:
    """Return the provider of a machine. Raise ProviderError if its name can't be one of a domain."""
    name = find_provider_machine_id(machine)
    if name.startswith("-"):
        raise ProviderError(f"{machine.name}: {name!r} is no name of a domain", hint="Correct its `provider`.")
    if name.isdecimal():
        message = f"{machine.name}: virsh takes {name} for the number of any domain that runs, and not for a name"
        raise ProviderError(message, hint="Give the domain another name: `virsh domrename`, while it is off.")
    host = HostCommands(ports.connect(settings.host), ports.clock, settings.host)
    copy_maker = CopyMaker(machine, settings.host, settings.uri, settings.repositories)
    return LibvirtProvider(Virsh(host, settings, name), copy_maker=copy_maker)


def _describe_disk(domain: Domain, disk: DomainDisk) -> ProvidedDisk:
    origin = domain.state.find_origin(disk.live_source)
    role = DiskRole.OS if disk.is_os else DiskRole.DATA
    return ProvidedDisk(disk.target, role, disk.live_source, origin.version, origin.digest, disk.source)


def _describe_snapshot(domain: Domain, snapshot: SavedSnapshot) -> Snapshot:
    """Its room is what has changed since: the layers on its files. Nothing is said of files that can't be read."""
    is_read = not _get_paths(snapshot) & set(domain.unread_paths)
    sizes = {file.path: file.actual_size for chain in domain.chains.values() for file in chain}
    frozen = {file.path for file in snapshot.files.values()}
    above = [path for path, under in domain.state.layers.items() if under in frozen]
    return Snapshot(
        snapshot.id,
        datetime.fromisoformat(snapshot.taken_at),
        tuple(snapshot.files),
        Consistency(snapshot.consistency) if is_read else Consistency.UNKNOWN,
        sum(sizes.get(path, 0) for path in above) if is_read else None,
        "its deletion has begun: order it again" if snapshot.is_going else "",
    )


def _get_paths(snapshot: SavedSnapshot) -> set[str]:
    return {file.path for file in snapshot.files.values()}
