"""Builds table rows from model objects, and reads them back: columns for searches, and a document with all data. Pure.

About 90 percent of a machine's data are its updates, and lists of machines do not show them. So the updates have their
own column, compressed, which lists do not read. Machines of a fleet are often similar: one reader decodes equal lists
of updates once.
"""

import hashlib
import zlib
from dataclasses import field, is_dataclass, replace
from typing import Any, TypeVar, cast

from inventory.data_class import dataclass
from tasks.domain.components import COMPONENT_PREFIX
from tasks.domain.errors import RecordsError
from tasks.domain.model import (
    SHARD_KIND,
    Assessment,
    Finding,
    JobOutput,
    MachinePlan,
    Outcome,
    RunInfo,
    Update,
    UpdateResult,
)
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.states import UpdateState
from tasks.records.encoding.codec import decode, encode, list_field_names
from tasks.rules.runs.figures import count_results

RowValues = dict[str, Any]
T = TypeVar("T")

MAX_OUTPUT_CHARACTERS = 64 * 1024 * 1024
"""Maximum length of one job's output. Of a longer output, the beginning and the end are kept."""


def encode_run(run: RunInfo) -> RowValues:
    """Return the row of a run. That of a shard has a kind of its own: the whole run has its outcomes too."""
    return {
        "id": run.id,
        "kind": SHARD_KIND if run.request.get("shard") else run.kind,
        "state": run.state.value,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "scope": run.scope,
        "started_by": run.started_by,
        "flow_run_id": run.flow_run_id,
        "message": run.message,
        "document": encode(run),
    }


def encode_assessment(assessment: Assessment) -> RowValues:
    """Return the row of an assessment."""
    facts, packages, error = assessment.facts, assessment.packages, assessment.error
    return {
        "run_id": assessment.run_id,
        "machine": assessment.machine,
        "at": assessment.at,
        "known": packages is not None,
        "compliance": assessment.compliance.value,
        "urgent": assessment.urgent_count,
        "other": assessment.other_count,
        "reboot": packages.reboot.answer.value if packages else "unknown",
        "os_id": facts.os_id if facts else "",
        "os_version": facts.os_version if facts else "",
        "error_kind": error.kind if error else "",
        "error_message": error.message if error else "",
        **_build_assessment_columns(assessment),
    }


def encode_pending_updates(assessment: Assessment, number: int) -> list[RowValues]:
    """Return a row for each pending update of an assessment. ``number`` is the assessment's row number."""
    return [
        _build_update_columns(update)
        | {
            "assessment": number,
            "machine": assessment.machine,
            "severity": update.severity,
            "held": update.held,
            "blocked": update.blocked,
            "published": update.published,
            "title": update.title,
        }
        for update in (assessment.packages.updates if assessment.packages else ())
    ]


def encode_outcome(outcome: Outcome) -> RowValues:
    """Return the row of an outcome."""
    return {
        "run_id": outcome.run_id,
        "machine": outcome.machine,
        "state": outcome.state.value,
        "reason": outcome.reason,
        "reboot": outcome.reboot.value,
        "wave": outcome.wave,
        "started_at": outcome.started_at,
        "ended_at": outcome.ended_at,
        "window_exceeded_seconds": outcome.window_exceeded_seconds,
        "updates_installed": outcome.count_updates(UpdateState.INSTALLED),
        "updates_failed": outcome.count_updates(UpdateState.FAILED),
        "error_kind": outcome.error.kind if outcome.error else "",
        "counts": encode(count_results(outcome.updates)),
        **_build_outcome_columns(outcome),
    }


def encode_update_results(outcome: Outcome, number: int) -> list[RowValues]:
    """Return a row for each update of an outcome that is not Pending. ``number`` is the outcome's row number.

    Pending updates are in ``assessment_updates``. Without this rule, runs that only assess would fill this table. A
    component whose installation began, and whose end was not seen, is in no assessment: it has a row.
    """
    return [
        _build_update_columns(result.update)
        | {
            "outcome": number,
            "run_id": outcome.run_id,
            "machine": outcome.machine,
            "state": result.state.value,
            "reason": result.reason,
            "version_after": result.version_after,
        }
        for result in outcome.updates
        if result.state is not UpdateState.PENDING
        or (outcome.install is not None and result.update.id.startswith(COMPONENT_PREFIX))
    ]


def encode_plan(run_id: str, plan: MachinePlan) -> RowValues:
    """Return the row of a machine's plan."""
    return {
        "run_id": run_id,
        "machine": plan.machine,
        "document": encode(replace(plan, chosen=(), skipped=())),
        "updates": compress_text(encode(_PlanUpdates(plan.chosen, plan.skipped))),
    }


def encode_journal_entry(entry: JournalEntry) -> RowValues:
    """Return the row of a journal entry."""
    document = encode(entry)
    return {
        "run_id": entry.run_id,
        "machine": entry.machine,
        "step": entry.step.value,
        "mark": entry.mark.value,
        "act": entry.act,
        "key": entry.key,
        "at": entry.at,
        "document": document,
        "digest": hashlib.sha256(document.encode("ascii")).hexdigest(),
    }


def encode_job_output(output: JobOutput) -> RowValues:
    """Return the row of a job's output."""
    text = shorten_middle(output.text)
    return {
        "run_id": output.run_id,
        "machine": output.machine,
        "job_id": output.job_id,
        "characters": len(output.text),
        "body": compress_text(text),
    }


def shorten_middle(text: str, limit: int = MAX_OUTPUT_CHARACTERS) -> str:
    """Return text cut to about ``limit`` characters. A line in the middle says how many characters are left out."""
    left_out = len(text) - limit
    if left_out <= 0:
        return text
    half = limit // 2
    return f"{text[:half]}\n[fleetpatch left out {left_out} characters]\n{text[len(text) - (limit - half) :]}"


def _build_update_columns(update: Update) -> RowValues:
    return {
        "update_id": update.id,
        "name": update.name,
        "arch": update.arch,
        "classification": update.classification.value,
        "installed": update.installed,
        "available": update.available,
        "kb": update.kb,
    }


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


def decompress_text(body: bytes | None, noun: str = "output of a job") -> str:
    """Return the text that ``compress_text`` compressed. Raise RecordsError if the bytes are damaged."""
    try:
        return zlib.decompress(body or b"").decode("utf-8", "surrogatepass")
    except (zlib.error, UnicodeDecodeError, TypeError) as error:
        raise RecordsError(f"a stored {noun} can't be read: {error}", hint=_DAMAGED_HINT) from error


def _build_assessment_columns(assessment: Assessment) -> dict[str, object]:
    """Return an assessment's ``document`` and ``updates``."""
    if assessment.packages is None:
        return {"document": encode(assessment), "updates": None}
    short = replace(assessment, packages=replace(assessment.packages, updates=()))
    return {
        "document": encode(short),
        "updates": compress_text(encode(_AssessmentUpdates(assessment.packages.updates))),
    }


def _build_outcome_columns(outcome: Outcome) -> dict[str, object]:
    """Return an outcome's ``document`` and ``updates``."""
    install = outcome.install
    same = install is None or install.results == outcome.updates
    body = _OutcomeUpdates(outcome.updates, None if same or install is None else install.results)
    short = replace(outcome, updates=(), install=replace(install, results=()) if install else None)
    return {"document": encode(short), "updates": compress_text(encode(body))}


_UPDATE_BEGIN = '{"id":'
_LIST_BEGIN, _LIST_BETWEEN, _LIST_END = f'{{"updates":[{_UPDATE_BEGIN}', f"}},{_UPDATE_BEGIN}", "}]}"
"""How ``encode`` writes a list of updates: what is before the first one, between two, and after the last one."""


@dataclass(slots=True)
class DocumentReader:
    """Decodes rows into objects. One object for what is kept together: equal parts of machines are there once."""

    _decoded_updates: dict[tuple[type, bytes], Any] = field(default_factory=dict)
    _decoded_update: dict[str, Update] = field(default_factory=dict)
    _shared: dict[object, Any] = field(default_factory=dict)

    def decode_assessment(self, document: str, updates: bytes | None) -> Assessment:
        """Return the assessment of a row. Raise RecordsError if the row cannot be decoded."""
        short = self._share(decode(Assessment, document))
        if updates is None or short.packages is None:
            return short
        return replace(short, packages=replace(short.packages, updates=self.decode_missing_updates(updates)))

    def decode_missing_updates(self, updates: bytes) -> tuple[Update, ...]:
        """Return the updates of a row of an assessment. Raise RecordsError if the row cannot be decoded."""
        decoded: tuple[Update, ...] | None = self._decoded_updates.get((_AssessmentUpdates, updates))
        if decoded is None:
            decoded = self._decode_each_update(decompress_text(updates, "list of updates"))
            self._decoded_updates[_AssessmentUpdates, updates] = decoded
        return decoded

    def _decode_each_update(self, text: str) -> tuple[Update, ...]:
        """Return the updates of a list. A fleet lacks the same ones in other lists: each is decoded once.

        Within a text of JSON no quotation mark is bare, so what is between two updates can't be in one.
        """
        if not (text.startswith(_LIST_BEGIN) and text.endswith(_LIST_END)):  # another version wrote it
            return decode(_AssessmentUpdates, text).updates
        return tuple(map(self._decode_update, text[len(_LIST_BEGIN) : -len(_LIST_END)].split(_LIST_BETWEEN)))

    def _decode_update(self, text: str) -> Update:
        update = self._decoded_update.get(text)
        if update is None:
            update = self._decoded_update[text] = decode(Update, f"{_UPDATE_BEGIN}{text}}}")
        return update

    def decode_outcome(self, document: str, updates: bytes) -> Outcome:
        """Return the outcome of a row. Raise RecordsError if the row cannot be decoded."""
        short = self._share(decode(Outcome, document))
        body, install = self._decode_updates(_OutcomeUpdates, updates), short.install
        if install is not None:
            install = replace(install, results=body.updates if body.installed is None else body.installed)
        return replace(short, updates=body.updates, install=install)

    def decode_plan(self, document: str, updates: bytes) -> MachinePlan:
        """Return the plan of a row. Raise RecordsError if the row cannot be decoded."""
        body = self._decode_updates(_PlanUpdates, updates)
        return replace(decode(MachinePlan, document), chosen=body.chosen, skipped=body.skipped)

    def _share(self, value: T) -> T:
        """Return a decoded object whose texts, tuples of texts and findings are those of earlier objects, if equal."""
        kind = type(value)
        if kind in {str, Finding}:  # enums are there once
            return cast("T", self._shared.setdefault(value, value))
        if isinstance(value, tuple):
            parts = tuple(map(self._share, value))
            is_shared = all(type(part) in {str, Finding} for part in parts)
            return cast("T", self._shared.setdefault(parts, parts) if is_shared else parts)
        if is_dataclass(value):
            for name in list_field_names(type(value)):  # type: ignore[arg-type]  # it is no class
                object.__setattr__(value, name, self._share(getattr(value, name)))  # nobody else has it yet
        return value

    def _decode_updates(self, kind: type[Any], updates: bytes) -> Any:  # noqa: ANN401 - of that kind
        decoded = self._decoded_updates.get((kind, updates))
        if decoded is None:
            decoded = self._decoded_updates[kind, updates] = decode(kind, decompress_text(updates, "list of updates"))
        return decoded
