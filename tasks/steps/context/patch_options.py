"""The options of a run: what it installs, how it reboots, and how long it waits."""

from dataclasses import dataclass, field
from typing import Literal

from tasks.model import (
    Hook,
    Selection,
)
from tasks.states import RebootPolicy


@dataclass(frozen=True, slots=True)
class PatchOptions:
    """How machines are to be patched.

    Attributes:
        reboot_reserve_seconds: part of the window that is kept for a reboot.
        going_down_seconds: how long a machine may take from the reboot order until it stops answering.
        coming_up_seconds: how long it may take from then until a login works.
        max_reboots: in one run; a machine that asks for more is left alone and reported.
        reboot_pending_first: take a reboot that was pending before we came, before anything is installed.
        repair: finish an interrupted package transaction that was there before we came.
        native_updaters: what becomes of updaters of the system's own meanwhile: they are left alone, or paused
            until the machine is done.
        restart_services: whether services that run replaced files are restarted, when the machine is not rebooted.
        restart_services_exclude: masks of units that are never restarted.
        stage: download everything before the first transaction.
        download_only: that, and nothing after it.
        settle_seconds: how long services may take to come back before validation calls them gone.
        max_unreachable_seconds: how long a machine may be unreachable while its job runs, beyond the window's end.
        refresh: read repositories anew when assessing.
        hooks: the owner's, before and after each machine.
    """

    selection: Selection = field(default_factory=Selection)
    reboot: RebootPolicy = RebootPolicy.IF_REQUIRED
    reboot_reserve_seconds: float = 900.0
    going_down_seconds: float = 600.0
    coming_up_seconds: float = 1800.0
    max_reboots: int = 2
    reboot_pending_first: bool = False
    allow_removals: bool = False
    repair: bool = False
    native_updaters: Literal["leave", "pause"] = "leave"
    restart_services: Literal["Never", "IfRequired"] = "Never"
    restart_services_exclude: tuple[str, ...] = ()
    stage: bool = True
    download_only: bool = False
    settle_seconds: float = 90.0
    max_unreachable_seconds: float = 900.0
    refresh: bool = True
    hooks: tuple[Hook, ...] = ()
