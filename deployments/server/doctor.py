"""doctor --server: does the server do what windows need? Asks, and has what it hears judged. Changes nothing."""

from deployments.server.asking import ServerAway, look_at_server
from deployments.server.judging import JUDGES, Judge
from deployments.server.view import ServerView
from tasks.model import Finding
from tasks.states import FindingLevel

MORE_JUDGES: tuple[Judge, ...] = ()
"""Of other parts of this room: each is handed the whole look, and says what it finds."""


def examine_server(records_url: str | None = None) -> tuple[Finding, ...]:
    """Look at the server that is configured.

    Args:
        records_url: where our own runs are remembered; None: as usual.

    Returns:
        A finding for each check; one alone, that blocks, when the server can't be asked.
    """
    try:
        view = look_at_server(records_url)
    except ServerAway as error:
        return (Finding("server", FindingLevel.BLOCK, error.message, error.hint),)
    return judged(view)


def judged(view: ServerView) -> tuple[Finding, ...]:
    """Return what a look at the server means. Pure."""
    answers = Finding("server", FindingLevel.GOOD, f"{view.url} answers")
    return (answers, *(finding for judge in (*JUDGES, *MORE_JUDGES) for finding in judge(view)))
