"""Whether a window can hold the shortest installation, before any machine was asked: for the question of a person."""

from collections.abc import Iterable
from datetime import datetime

from flows.request.patch_request import PatchRequest
from inventory.machine import Machine
from tasks.domain.model import Window
from tasks.machines.managers.registry import find_typical_work
from tasks.rules.timing.maintenance_window import describe_shortage


def describe_request_shortage(request: PatchRequest, machines: Iterable[Machine], window: Window, now: datetime) -> str:
    """Return why nothing can begin on any machine in a window, with the numbers; "" if something may.

    A plan knows more: what the machines lack, and how fast they are.

    Args:
        request: the request.
        machines: those that the run may change.
        window: the window of the run.
        now: the present time.
    """
    reasons: list[tuple[float, str]] = []
    for machine in machines:
        minutes = machine.limits.reboot_reserve_minutes
        reserve = 60 * (request.reboot_reserve_minutes if minutes is None else minutes)
        seconds = find_typical_work(machine.os)[0].transaction_seconds
        reason = describe_shortage(window, now, "the shortest installation", seconds, request.reboot, reserve)
        if not reason:
            return ""
        reasons.append((seconds + reserve, f"{reason} ({machine.name})"))
    return min(reasons)[1] if reasons else ""
