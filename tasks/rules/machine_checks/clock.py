"""The check of a machine's clock against the controller's. Pure."""

from tasks.model import Finding
from tasks.rules.calendar.time_format import format_duration
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding, build_warning

_SKEW_WARN_SECONDS = 5.0


_SKEW_BLOCK_SECONDS = 300.0  # signatures and Kerberos tickets stop being valid about here


def check_clock(skew_seconds: float) -> Finding:
    """Return whether the machine's clock can be relied on. A positive skew means that it is ahead of ours.

    Jobs stop by the machine's own clock. fleetpatch takes the skew off, so a few seconds only need saying; a clock
    that is minutes off also breaks the checking of signatures and certificates.
    """
    apart = abs(skew_seconds)
    if apart <= _SKEW_WARN_SECONDS:
        return build_good_finding("clock", "the clock agrees with the controller's")
    way = "ahead of" if skew_seconds > 0 else "behind"
    message = f"the clock is {format_duration(apart)} {way} the controller's"
    remedy = "Let the machine's clock be set from a time server, and see that the controller's is."
    if apart > _SKEW_BLOCK_SECONDS:
        return build_blocker(
            "clock", f"{message}: too far for certificates and signatures to be checked reliably", remedy
        )
    return build_warning("clock", f"{message}; deadlines given to the machine are corrected by that", remedy)
