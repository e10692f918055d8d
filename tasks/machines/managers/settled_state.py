"""Reads a package state again that was read while another process changed packages."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tasks.domain.errors import DeadlineExceeded
from tasks.domain.model import PackageState

JUST_ENDED_PROCESS: Final = "a process that has just ended"
"""Who changed packages during a read (``PackageState.at_work``), if that process was gone at its end."""

MAX_REREADS: Final = 2
"""The maximum number of repeated reads, if another process changed packages during an assessment."""


def read_settled_state(read: Callable[[], PackageState], read_again: Callable[[], PackageState]) -> PackageState:
    """Read the package state, and again if packages were changed meanwhile.

    Reading takes seconds. If a transaction ends in that time, only half of it is seen, and it looks broken.

    Args:
        read: reads it, perhaps after a refresh.
        read_again: reads it without a refresh.
    """
    state = read()
    for _ in range(MAX_REREADS):
        if state.at_work != JUST_ENDED_PROCESS:
            break
        try:
            again = read_again()
        except DeadlineExceeded:  # the first read took most of the time; its answer is still valid
            break
        state = replace(
            again,
            warnings=tuple(dict.fromkeys((*state.warnings, *again.warnings))),
            repository_problems=tuple(dict.fromkeys((*state.repository_problems, *again.repository_problems))),
            remarks=state.remarks or again.remarks,
        )
    return state
