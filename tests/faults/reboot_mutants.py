"""Laws about reboots broken on purpose: others are not looked at, or what they do is misread (see mutations.py)."""

from datetime import timedelta

from tasks.steps import outcome, reboot
from tasks.steps.context import machine_context
from tasks.steps.machine import reboot_watch
from tasks.steps.machine.reboot_obstacles import RebootWait
from tests.faults.breaks import Break, apply_all, replace_attribute
from tests.faults.machine import FaultyMachine
from tests.support.reboot_guard import RebootGuard


def _let_in(self: FaultyMachine, seconds: float) -> None:
    now = self.fake_clock.now()
    self.world.locks = (*self.world.locks, (now, now + timedelta(seconds=seconds)))


NOT_LOOKED_AGAIN = replace_attribute(RebootGuard, "gives_up", lambda self: False)

REBOOT_MUTANTS: dict[str, tuple[str, Break]] = {
    "transactions of others are not checked before a reboot": (
        "1",
        replace_attribute(RebootGuard, "obstacle", lambda self: None),
    ),
    "the machine accepts a reboot order while others change its packages": (
        "1",
        apply_all(replace_attribute(RebootGuard, "refusal", lambda self, boot_id: None), NOT_LOOKED_AGAIN),
    ),
    "a machine that is about to reboot lets others begin a transaction": (
        "1",
        apply_all(replace_attribute(FaultyMachine, "lock", _let_in), NOT_LOOKED_AGAIN),
    ),
    "a reboot that others prevent counts as failed": (
        "the report is correct",
        replace_attribute(reboot, "OBSTACLE_KINDS", frozenset()),
    ),
    "the run waits for an order that the machine gave up": (
        "the report is correct",
        replace_attribute(reboot_watch, "_find_given_up_order", lambda readiness: None),
    ),
    "the run waits for others without a limit": (
        "one outcome per machine",
        replace_attribute(RebootWait, "_check_wait_over", lambda *_: ""),
    ),
    "a pending reboot without a decision is not reported": (
        "the report is correct",
        replace_attribute(outcome, "_check_pending_reboot", lambda work: ()),
    ),
    "the machine does not start its own updaters again when the lock ends": (
        "paused updaters start again",
        replace_attribute(FaultyMachine, "lock_ends", lambda *_: None),
    ),
    "the durations of earlier reboots are not used": (
        "2",
        replace_attribute(machine_context, "compute_reboot_reserve", lambda reserve, learned: reserve),
    ),
}
"""As ``mutations.MUTANTS``."""
