"""How long a machine has run. Pure."""

from typing import Final

_DRIFT_SHARE: Final = 0.01
"""By how much of the time a counter may differ from the clock."""
_DRIFT_SECONDS: Final = 300.0


def find_uptime(counted: float | None, booted_at: float | None, now: float) -> float | None:
    """Return the seconds since a machine's boot; None when unknown.

    A counter drifts from the clock, by minutes in some months, and on a virtual machine it may not begin at 0. The time
    of the boot is wrong if somebody has set the clock since, unless the system has moved it along. So the time of the
    boot decides, and if the two differ by more than a drift, the shorter uptime: who has just booted needs patience.

    Args:
        counted: what a counter says, in seconds; None without one.
        booted_at: when it was booted, by its own clock, in seconds since the epoch; None when it does not say.
        now: its own clock, in seconds since the epoch.
    """
    since_boot = None if booted_at is None or booted_at > now else now - booted_at
    if since_boot is None or counted is None:
        return counted if since_boot is None else since_boot
    is_drift = abs(since_boot - counted) <= max(_DRIFT_SECONDS, counted * _DRIFT_SHARE)
    return since_boot if is_drift else min(since_boot, counted)
