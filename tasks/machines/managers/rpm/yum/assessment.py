"""Turns the answers of rpm_assess.sh with yum 3, written in the form of dnf 4's, into a PackageState. Pure."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from tasks.domain.model import PackageState
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.rpm.advisories import parse_advisories
from tasks.machines.managers.rpm.dnf.assessment import DnfAnswers, build_assessment
from tasks.machines.managers.rpm.dnf.offers import parse_holds
from tasks.machines.managers.script_output import parse_sections

YUM_ANSWERS: Final = DnfAnswers("yum", partial(parse_advisories, knows_epochs=True), parse_holds)
_JOURNAL_FORMAT: Final = "%Y-%m-%d.%H:%M.%S"


def parse_assessment(result: ScriptResult) -> PackageState:
    """Return the package state from the script's result. Errors: see build_assessment."""
    state = build_assessment(result, YUM_ANSWERS)
    sections = parse_sections(result, "rpm_assess", "unfinished_transactions")
    if state.at_work:  # what a running transaction has not done yet
        return state
    return replace(state, warnings=(*state.warnings, *_warn_of_journals(sections["unfinished_transactions"].text)))


def _warn_of_journals(text: str) -> tuple[str, ...]:
    """Return a warning about transactions that yum began and did not end. What they left undone is pending again."""
    times = [line for line in text.splitlines() if _is_time(line)]
    if not times:
        return ()
    return (
        f"yum did not end {len(times)} of its transactions, the last one of {max(times)}. What they left undone is "
        "pending again. yum-complete-transaction --cleanup-only makes yum forget them; do not complete them: they "
        "could install older versions",
    )


def _is_time(text: str) -> bool:
    try:
        datetime.strptime(text, _JOURNAL_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
