"""doctor --server: reads a snapshot of the server and checks it. It changes nothing."""

from deployments.server.client import ServerUnavailable
from deployments.server.health_checks import run_server_checks
from deployments.server.probe import probe_server
from tasks.model import Finding
from tasks.states import FindingLevel


def check_server(records_url: str | None = None) -> tuple[Finding, ...]:
    """Check the configured server.

    Args:
        records_url: URL of the records; None: the default.

    Returns:
        The findings of all checks; only one blocking finding if the server does not answer.
    """
    try:
        return run_server_checks(probe_server(records_url))
    except ServerUnavailable as error:
        return (Finding("server", FindingLevel.BLOCK, error.message, error.hint),)
