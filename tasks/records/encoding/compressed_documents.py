"""Splits assessments, outcomes and plans into a short document and a compressed list of updates, and joins them again.

About 90 percent of a machine's data are its updates, and lists of machines do not show them. So the updates have their
own column, which lists do not read. Machines of a fleet are often similar: one reader decodes equal lists of updates
once. In rows from before schema revision 0005 that column is empty, and the document has everything.
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
    """An outcome's updates. ``installed`` has the updates of its installation if they differ, else None."""

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
    """Return text as compressed bytes. Lone surrogates and NULs are allowed."""
    return zlib.compress(text.encode("utf-8", "surrogatepass"), level=6)


def decompress_text(body: bytes, what: str = "output of a job") -> str:
    """Return the text that ``compress_text`` compressed.

    Raises:
        RecordsError: the bytes are damaged.
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
    """Decodes rows into objects. One object for each read operation: it caches decoded lists of updates."""

    _decoded_updates: dict[tuple[type, bytes], Any] = field(default_factory=dict)

    def decode_assessment(self, document: str, updates: bytes | None) -> Assessment:
        """Return the assessment of a row.

        Raises:
            RecordsError: the row cannot be decoded.
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
            RecordsError: the row cannot be decoded.
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
            RecordsError: the row cannot be decoded.
        """
        body = self._decode_updates(_PlanUpdates, updates)
        return replace(decode(MachinePlan, document), chosen=body.chosen, skipped=body.skipped)

    def _decode_updates(self, kind: type[Any], updates: bytes) -> Any:  # noqa: ANN401 - of that kind
        found = self._decoded_updates.get((kind, updates))
        if found is None:
            found = self._decoded_updates[kind, updates] = decode(kind, decompress_text(updates, "list of updates"))
        return found
