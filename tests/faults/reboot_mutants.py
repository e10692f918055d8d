"""Laws about reboots broken on purpose: others are not looked at, or what they do is misread (see mutations.py)."""

from datetime import timedelta

from tasks.steps import reboot, report
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
    "nobody looks at other people's transactions before a reboot": (
        "1",
        replace_attribute(RebootGuard, "obstacle", lambda self: None),
    ),
    "the machine takes an order on although others change its packages": (
        "1",
        apply_all(replace_attribute(RebootGuard, "refusal", lambda self, boot_id: None), NOT_LOOKED_AGAIN),
    ),
    "a machine that is about to go down lets others begin": (
        "1",
        apply_all(replace_attribute(FaultyMachine, "lock", _let_in), NOT_LOOKED_AGAIN),
    ),
    "a reboot that others keep back is taken for a failed one": (
        "what is reported is true",
        replace_attribute(reboot, "OBSTACLE_KINDS", frozenset()),
    ),
    "an order that the machine gave up is waited for": (
        "what is reported is true",
        replace_attribute(reboot_watch, "_read_given_up_order", lambda work: ()),
    ),
    "others are waited for without an end": (
        "one outcome a machine",
        replace_attribute(RebootWait, "_check_wait_over", lambda *_: ""),
    ),
    "a reboot that nobody had to decide about is not told": (
        "what is reported is true",
        replace_attribute(report, "_check_pending_reboot", lambda work: ()),
    ),
    "the machine does not bring its own updaters back when the claim ends": (
        "what was paused comes back",
        replace_attribute(FaultyMachine, "claim_ends", lambda *_: None),
    ),
    "what was learned of a machine's reboots is not used": (
        "2",
        replace_attribute(machine_context, "compute_reboot_reserve", lambda reserve, learned: reserve),
    ),
}
"""As ``mutations.MUTANTS``."""
