"""The check of services after patching: failed units and ports without a listener. Pure."""

from tasks.model import Finding, Services
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding, build_warning, join_first_names
from tasks.rules.machine_checks.listeners import find_failed_service_units, find_vanished_listeners


def check_services(before: Services, after: Services) -> tuple[Finding, ...]:
    """Return findings about services after patching. A newly failed unit or a missing listener blocks.

    Units that had failed before do not count. New services do not count either.
    """
    if not before.known or not after.known:
        remedy = "Give this machine probes of its own, so that its health can be checked."
        return (build_warning("services", "the machine can't show which services run", remedy),)
    found: list[Finding] = []
    failed = find_failed_service_units(sorted(set(after.failed) - set(before.failed)))
    if failed:
        remedy = "Read their logs on the machine, repair them and start them."
        found.append(build_blocker("services", f"failed since patching: {join_first_names(failed)}", remedy))
    gone = find_vanished_listeners(before, after)
    if gone:
        remedy = "Read the logs of the service that listened there, and start it."
        found.append(build_blocker("ports", f"nothing listens any more on {join_first_names(gone)}", remedy))
    return tuple(found) or (build_good_finding("services", "everything that ran before runs now"),)
