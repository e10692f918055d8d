"""Laws about reboots broken on purpose: others are not looked at, or what they do is misread (see mutations.py)."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from tasks.steps import reboot, report
from tasks.steps.context import machine_context
from tasks.steps.machine import reboot_watch
from tasks.steps.machine.reboot_obstacles import RebootWait
from tests.faults.machine import FaultyMachine
from tests.support.reboot_guard import RebootGuard

Break = Callable[[ExitStack], None]


def _put(where: Any, name: str, what: Any) -> Break:
    return lambda stack: stack.enter_context(patch.object(where, name, what)) and None


def _all(*breaks: Break) -> Break:
    def do(stack: ExitStack) -> None:
        for each in breaks:
            each(stack)

    return do


def _let_in(self: FaultyMachine, seconds: float) -> None:
    now = self.fake_clock.now()
    self.world.locks = (*self.world.locks, (now, now + timedelta(seconds=seconds)))


NOT_LOOKED_AGAIN = _put(RebootGuard, "gives_up", lambda self: False)

REBOOT_MUTANTS: dict[str, tuple[str, Break]] = {
    "nobody looks at other people's transactions before a reboot": (
        "1",
        _put(RebootGuard, "obstacle", lambda self: None),
    ),
    "the machine takes an order on although others change its packages": (
        "1",
        _all(_put(RebootGuard, "refusal", lambda self, boot_id: None), NOT_LOOKED_AGAIN),
    ),
    "a machine that is about to go down lets others begin": (
        "1",
        _all(_put(FaultyMachine, "lock", _let_in), NOT_LOOKED_AGAIN),
    ),
    "a reboot that others keep back is taken for a failed one": (
        "what is reported is true",
        _put(reboot, "OBSTACLE_KINDS", frozenset()),
    ),
    "an order that the machine gave up is waited for": (
        "what is reported is true",
        _put(reboot_watch, "_read_given_up_order", lambda work: ()),
    ),
    "others are waited for without an end": (
        "one outcome a machine",
        _put(RebootWait, "_check_wait_over", lambda *_: ""),
    ),
    "a reboot that nobody had to decide about is not told": (
        "what is reported is true",
        _put(report, "_check_pending_reboot", lambda work: ()),
    ),
    "the machine does not bring its own updaters back when the claim ends": (
        "what was paused comes back",
        _put(FaultyMachine, "claim_ends", lambda *_: None),
    ),
    "what was learned of a machine's reboots is not used": (
        "2",
        _put(machine_context, "compute_reboot_reserve", lambda reserve, learned: reserve),
    ),
}
"""As ``mutations.MUTANTS``."""
