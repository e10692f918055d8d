"""doctor --server: reads a snapshot of the server and checks it. Changes nothing."""

from deployments.server.client import ServerUnavailable
from deployments.server.health_checks import run_server_checks
from deployments.server.probe import probe_server
from tasks.model import Finding
from tasks.states import FindingLevel


def check_server(records_url: str | None = None) -> tuple[Finding, ...]:
    """Look at the server that is configured.

    Args:
        records_url: where our own runs are remembered; None: as usual.

    Returns:
        A finding for each check; one alone, that blocks, when the server can't be asked.
    """
    try:
        return run_server_checks(probe_server(records_url))
    except ServerUnavailable as error:
        return (Finding("server", FindingLevel.BLOCK, error.message, error.hint),)
