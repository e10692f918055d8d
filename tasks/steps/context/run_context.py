"""The ports and options of one run. All its machines share them."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import Literal, NoReturn

from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.components import Component, ComponentOrder
from tasks.domain.errors import RequestError
from tasks.domain.model import Facts, Hook, HookResult, RebootNeed, RunInfo, Selection, Window
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.protocols.machine_provider import MachineProvider
from tasks.domain.protocols.package_manager import PackageManager
from tasks.domain.protocols.records import Records
from tasks.domain.protocols.scheduled_events import ScheduledEvents
from tasks.domain.protocols.transport import Transport
from tasks.domain.rows.snapshots import SnapshotRow
from tasks.domain.scheduled_events import EventSource
from tasks.domain.states import RebootPolicy
from tasks.domain.undo import UndoOrder
from tasks.rules.machine_checks.packages import OthersPolicy
from tasks.rules.runs.reboot_decision import LivePatchPolicy
from tasks.rules.runs.snapshots import SnapshotPolicy
from tasks.rules.scheduled_events import EventNotice
from tasks.steps.context.run_control import LoggingListener, ProgressListener, StopToken

logger = logging.getLogger(__name__)


DEFAULT_MAX_UNREACHABLE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class PatchOptions:
    """How machines are patched.

    Attributes:
        reboot_reserve_seconds: the part of the window that is kept for a reboot.
        going_down_seconds: the maximum time from the reboot order until the machine stops answering; None: what its
            package manager's rates say.
        coming_up_seconds: the maximum time from then until a login works; None: the same.
        max_reboots: in one run. A machine that requires more is not rebooted, and is reported.
        reboot_if_live_patched: reboot also if live patches mitigate the pending reboot. False: such a reboot waits.
        live_patched_reboot_days: the days that such a reboot may wait; None: no deadline.
        window: of the run; None: it has none. It decides which of those days are over.
        reboot_pending_first: do a reboot that was pending before the run before anything is installed.
        remove_unused_kernels: after a validation without blocking findings, remove kernels that are in no use.
        repair: finish a package transaction that was interrupted before the run.
        native_updaters: "leave" the system's own updaters as they are, or "pause" them until the machine is done.
        patched_by_others: what to do with a machine that others patch: "patch" it, "fail" its pre-check, or "skip" it.
        restart_services: whether services that run replaced files are restarted if the machine is not rebooted.
        restart_services_exclude: masks of units that are never restarted.
        settle_seconds: the time from the last start of a service to the second look at the machine; 0: no second look.
        come_back_seconds: the time that services have to come back before validation reports them.
        max_unreachable_seconds: how long a machine may be unreachable while its job runs, beyond the window's end.
        refresh: read the repositories again when assessing.
        announce: how reboots and restarts of services are announced as scheduled events; None: they are not.
        component_order: the one component that the run upgrades; None: it installs updates of packages.
        undo_order: what the run takes back; None: it is no undo.
        snapshot: what is done with the snapshot before a machine's first change; None: none is taken.
    """

    selection: Selection = field(default_factory=Selection)
    reboot: RebootPolicy = RebootPolicy.IF_REQUIRED
    reboot_reserve_seconds: float = 900.0
    going_down_seconds: float | None = None
    coming_up_seconds: float | None = None
    max_reboots: int = 2
    reboot_if_live_patched: bool = True
    live_patched_reboot_days: float | None = None
    window: Window | None = None
    reboot_pending_first: bool = False
    allow_removals: bool = False
    reboot_with_passphrase: bool = False
    remove_unused_kernels: bool = False
    repair: bool = False
    native_updaters: Literal["leave", "pause"] = "leave"
    patched_by_others: OthersPolicy = "patch"
    restart_services: Literal["Never", "IfRequired"] = "IfRequired"
    restart_services_exclude: tuple[str, ...] = ()
    stage: bool = True
    keep_previous: bool = False
    download_only: bool = False
    settle_seconds: float = 45.0
    come_back_seconds: float = 90.0
    max_unreachable_seconds: float = DEFAULT_MAX_UNREACHABLE_SECONDS
    refresh: bool = True
    announce: EventNotice | None = None
    hooks: tuple[Hook, ...] = ()
    component_order: ComponentOrder | None = None
    undo_order: UndoOrder | None = None
    snapshot: SnapshotPolicy | None = None

    @property
    def pauses_updaters(self) -> bool:
        """Return whether the system's own updaters are paused before anything is installed."""
        return self.native_updaters == "pause"

    @property
    def forbids_restarts(self) -> bool:
        """Whether updates are installed, and the request promises that nothing restarts the machine."""
        return self.reboot is RebootPolicy.NEVER and not self.download_only and self.component_order is None

    def may_reboot_wait(self, need: RebootNeed) -> bool:
        """Return whether a required reboot is left for later because live patches mitigate it."""
        return self.live_patch_policy.may_wait(need, self.reboot)

    def is_reboot_overdue(self, need: RebootNeed) -> bool:
        """Return whether a reboot that live patches mitigate has waited too long, and this run may do it."""
        return self.live_patch_policy.is_overdue(need) and self.reboot is not RebootPolicy.NEVER

    @property
    def live_patch_policy(self) -> LivePatchPolicy:
        """Whether and how long a reboot that live patches mitigate waits."""
        return LivePatchPolicy(self.reboot_if_live_patched, self.live_patched_reboot_days, self.window)


class MachineInstances:
    """The machines that a run has met, each with the name under which it met it first. Safe for use by many threads.

    The machine's own lock has the last word: it is of a run and a name, also for a second process of the run.

    Args:
        known: the names and the facts of the machines that an earlier process of the run has met.
    """

    def __init__(self, known: Iterable[tuple[str, Facts | None]] = ()) -> None:
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()
        for name, facts in known:
            self.meet(facts, name)

    def meet(self, facts: Facts | None, name: str) -> str:
        """Return the other name under which the run has met this machine before, or "".

        Without facts, or without an id of the instance, nothing is said.
        """
        if facts is None or not facts.instance_id:
            return ""
        with self._lock:
            first = self._names.setdefault(facts.instance_id, name)
        return "" if first == name else first


def _refuse_hook(hook: Hook, subject: str, deadline: Deadline) -> NoReturn:  # noqa: ARG001 - the call's parameters
    raise RequestError(f"hook {hook.name!r} of kind {hook.kind} can't be run here")


def _refuse_magic_packet(mac: str, broadcast: str, port: int) -> NoReturn:  # noqa: ARG001 - the call's parameters
    raise RequestError(f"no magic packet for {mac} can be sent here")


@dataclass(frozen=True, slots=True)
class RunContext:
    """The ports and options of one run, the same for all its machines.

    Attributes:
        call_hook: runs a hook that is not a command on a machine, with its subject and deadline.
        explain_spent_budget: returns why no further machine may begin after too many failures, or "".
        send_magic_packet: powers a machine on by Wake-on-LAN: hardware address, IPv4 address, port.
        is_port_open: returns whether a machine accepts connections; None: that can't be told.
        events: the scheduled events; None: this process can't announce anything.
        event_source: who causes the events of this run.
        list_audience: returns the machines that are told an event of a machine.
        list_components: returns the components that a machine is asked for.
        open_provider: returns who holds the disks of a machine; None: its inventory entry names nobody.
        attempts: the numbers of this process's attempts at the run, by machine. Each is read only once.
        save_snapshot: stores what is known of a snapshot. Raises RecordsError if it can't.
    """

    run: RunInfo
    options: PatchOptions
    clock: Clock
    records: Records
    connect: Callable[[Machine], Transport]
    find_manager: Callable[[Facts], PackageManager]
    listener: ProgressListener = field(default_factory=LoggingListener)
    stop_token: StopToken = field(default_factory=StopToken)
    call_hook: Callable[[Hook, str, Deadline], HookResult] = _refuse_hook
    explain_spent_budget: Callable[[], str] = lambda: ""
    instances: MachineInstances = field(default_factory=MachineInstances)
    send_magic_packet: Callable[[str, str, int], None] = _refuse_magic_packet
    is_port_open: Callable[[Machine], bool | None] = lambda _machine: None
    events: ScheduledEvents | None = None
    event_source: EventSource = EventSource.USER
    list_audience: Callable[[str], tuple[str, ...]] = lambda machine: (machine,)
    list_components: Callable[[Machine], Sequence[Component]] = lambda _machine: ()
    open_provider: Callable[[Machine], MachineProvider | None] = lambda _machine: None
    save_snapshot: Callable[[SnapshotRow], None] = lambda _row: None
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def window(self) -> Window:
        """The window of a run that changes machines."""
        if self.run.window is None:
            raise ValueError(f"run {self.run.id} has no window")
        return self.run.window
