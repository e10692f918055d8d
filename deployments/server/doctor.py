"""doctor --server: does the server do what windows need? Asks, and has what it hears judged. Changes nothing."""

from deployments.server.asking import ServerAway, look_at_server
from deployments.server.judging import judged
from tasks.model import Finding
from tasks.states import FindingLevel


def examine_server(records_url: str | None = None) -> tuple[Finding, ...]:
    """Look at the server that is configured.

    Args:
        records_url: where our own runs are remembered; None: as usual.

    Returns:
        A finding for each check; one alone, that blocks, when the server can't be asked.
    """
    try:
        return judged(look_at_server(records_url))
    except ServerAway as error:
        return (Finding("server", FindingLevel.BLOCK, error.message, error.hint),)
