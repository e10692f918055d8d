"""Assessments, outcomes and plans as rows hold them: a short document, and beside it the updates, compressed.

Nine tenths of what is known of a machine are its updates, and lists of machines show none of them. So they stand in a
column of their own, which a list does not read. Machines of a fleet are often alike: equal lists of updates are
decoded once in one reading. Rows of before have no such column filled; their document holds everything.
"""

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.errors import RecordsError
from tasks.model import Assessment, MachinePlan, Outcome, Update, UpdateResult
from tasks.records.encoding.codec import decode, encode

_DAMAGED_HINT = "It was changed by hand, or torn: restore a backup."


@dataclass(frozen=True, slots=True)
class _OutcomeUpdates:
    """An outcome's updates, and those of its installation where they are others."""

    updates: tuple[UpdateResult, ...]
    installed: tuple[UpdateResult, ...] | None = None


@dataclass(frozen=True, slots=True)
class _AssessmentUpdates:
    updates: tuple[Update, ...]


@dataclass(frozen=True, slots=True)
class _PlanUpdates:
    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]


def compress_text(text: str) -> bytes:
    """Return any text, lone surrogates and NULs included, as compressed bytes."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"), level=6)


def decompress_text(body: bytes, what: str = "output of a job") -> str:
    """Return the text that was packed.

    Raises:
        RecordsError: the bytes are not what was packed.
    """
    try:
        return zlib.decompress(body).decode("utf-8", "surrogatepass")
    except (zlib.error, UnicodeDecodeError) as error:
        raise RecordsError(f"a stored {what} can't be read: {error}", hint=_DAMAGED_HINT) from error


def build_assessment_columns(assessment: Assessment) -> dict[str, object]:
    """Return an assessment's ``document`` and ``updates``."""
    if assessment.packages is None:
        return {"document": encode(assessment), "updates": None}
    short = replace(assessment, packages=replace(assessment.packages, updates=()))
    return {
        "document": encode(short),
        "updates": compress_text(encode(_AssessmentUpdates(assessment.packages.updates))),
    }


def build_outcome_columns(outcome: Outcome) -> dict[str, object]:
    """Return an outcome's ``document`` and ``updates``."""
    install = outcome.install
    same = install is None or install.results == outcome.updates
    body = _OutcomeUpdates(outcome.updates, None if same or install is None else install.results)
    short = replace(outcome, updates=(), install=replace(install, results=()) if install else None)
    return {"document": encode(short), "updates": compress_text(encode(body))}


def build_plan_columns(plan: MachinePlan) -> dict[str, object]:
    """Return a plan's ``document`` and ``updates``."""
    short = replace(plan, chosen=(), skipped=())
    return {"document": encode(short), "updates": compress_text(encode(_PlanUpdates(plan.chosen, plan.skipped)))}


@dataclass(slots=True)
class DocumentReader:
    """Puts rows together again, for one reading."""

    _decoded_updates: dict[tuple[type, bytes], Any] = field(default_factory=dict)

    def decode_assessment(self, document: str, updates: bytes | None) -> Assessment:
        """Return the assessment of a row.

        Raises:
            RecordsError: it can't be understood.
        """
        short = decode(Assessment, document)
        if updates is None or short.packages is None:
            return short
        return replace(
            short, packages=replace(short.packages, updates=self._decode_updates(_AssessmentUpdates, updates).updates)
        )

    def decode_outcome(self, document: str, updates: bytes | None) -> Outcome:
        """Return the outcome of a row.

        Raises:
            RecordsError: it can't be understood.
        """
        short = decode(Outcome, document)
        if updates is None:
            return short
        body, install = self._decode_updates(_OutcomeUpdates, updates), short.install
        if install is not None:
            install = replace(install, results=body.updates if body.installed is None else body.installed)
        return replace(short, updates=body.updates, install=install)

    def decode_plan(self, document: str, updates: bytes) -> MachinePlan:
        """Return the plan of a row.

        Raises:
            RecordsError: it can't be understood.
        """
        body = self._decode_updates(_PlanUpdates, updates)
        return replace(decode(MachinePlan, document), chosen=body.chosen, skipped=body.skipped)

    def _decode_updates(self, kind: type[Any], updates: bytes) -> Any:  # noqa: ANN401 - of that kind
        found = self._decoded_updates.get((kind, updates))
        if found is None:
            found = self._decoded_updates[kind, updates] = decode(kind, decompress_text(updates, "list of updates"))
        return found
