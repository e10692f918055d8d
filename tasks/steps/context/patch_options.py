"""The options of a run: what it installs, how it reboots, and how long it waits."""

from dataclasses import dataclass, field
from typing import Literal

from tasks.domain.model import Hook, RebootNeed, Selection, Window
from tasks.domain.states import RebootPolicy
from tasks.rules.machine_checks.auto_updaters import OthersPolicy
from tasks.rules.runs.reboot_decision import LivePatchPolicy

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
        patched_by_others: what to do with a machine that others patch: "warn", "fail" its pre-check, or "skip" it.
        restart_services: whether services that run replaced files are restarted if the machine is not rebooted.
        restart_services_exclude: masks of units that are never restarted.
        stage: download everything before the first transaction.
        download_only: download, and do nothing after it.
        settle_seconds: the time that services have to come back before validation reports them.
        max_unreachable_seconds: how long a machine may be unreachable while its job runs, beyond the window's end.
        refresh: read the repositories again when assessing.
        hooks: of the request, before and after each machine.
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
    remove_unused_kernels: bool = False
    repair: bool = False
    native_updaters: Literal["leave", "pause"] = "leave"
    patched_by_others: OthersPolicy = "warn"
    restart_services: Literal["Never", "IfRequired"] = "Never"
    restart_services_exclude: tuple[str, ...] = ()
    stage: bool = True
    download_only: bool = False
    settle_seconds: float = 90.0
    max_unreachable_seconds: float = DEFAULT_MAX_UNREACHABLE_SECONDS
    refresh: bool = True
    hooks: tuple[Hook, ...] = ()

    @property
    def pauses_updaters(self) -> bool:
        """Return whether the system's own updaters are paused before anything is installed."""
        return self.native_updaters == "pause"

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
