"""The check of a machine's clock against the controller's clock. Pure."""

from tasks.model import Finding
from tasks.rules.calendar.time_format import format_duration
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding, build_warning

_SKEW_WARN_SECONDS = 5.0


_SKEW_BLOCK_SECONDS = 300.0  # from about here, signatures and Kerberos tickets become invalid


def check_clock(skew_seconds: float) -> Finding:
    """Return a finding about the machine's clock. A positive skew means that it is ahead of the controller's clock.

    Jobs use the machine's own clock for their deadlines. fleetpatch corrects deadlines by the skew, so a few seconds
    only warn. A skew of minutes blocks: signatures and certificates can't be checked.
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
