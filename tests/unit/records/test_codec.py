"""Whatever the model can hold goes through a document and comes back equal."""

import functools
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tasks.domain import model
from tasks.domain.errors import RecordsError
from tasks.domain.model import Assessment, DurationPrediction, Outcome, RunInfo, RunReport, Selection, Update
from tasks.domain.protocols.records import JournalEntry
from tasks.records.automatic.automatic_runs import AutomaticRun
from tasks.records.encoding.codec import _build_schema, build_validator, decode, encode
from tasks.records.encoding.row_encoding import _AssessmentUpdates, _OutcomeUpdates, _PlanUpdates
from tasks.records.sql_records import RunPlans
from tasks.rules.automatic.model import Rollout
from tasks.rules.runs.figures import UpdateCounts
from tests.support import builders as make

KINDS: list[Any] = [
    *(kind for kind in vars(model).values() if is_dataclass(kind)),
    JournalEntry,
    RunPlans,
]
OTHER_KINDS: list[Any] = [UpdateCounts, Rollout, AutomaticRun, _AssessmentUpdates, _OutcomeUpdates, _PlanUpdates]
"""What else is decoded."""

# Two lone surrogates in a row may spell one character, which is then what comes back: see codec.py.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["\x00", "\ud800", "\udfff x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.builds(
    datetime.fromtimestamp,
    st.decimals(0, 4_000_000_000, places=6).map(float),
    OFFSETS,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    datetime: MOMENTS,
    float: st.floats(allow_nan=False),
    Mapping[str, object]: st.dictionaries(TEXT, JSON, max_size=3),
    dict[str, object]: st.dictionaries(TEXT, JSON, max_size=3),
}


@functools.cache
def _strategy(hint: Any) -> st.SearchStrategy[Any]:
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: _strategy(hints[field.name]) for field in fields(hint)})
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(_strategy(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(_strategy, arguments))
    return st.none() | _strategy(arguments[0]) if type(None) in arguments else st.from_type(hint)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=settings().max_examples // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_round_trip(kind: Any, data: st.DataObject) -> None:
    item = data.draw(_strategy(kind))
    document = encode(item)
    assert decode(kind, document) == item
    assert document.isascii()
    assert "\x00" not in document


def test_every_kind_of_the_model_is_tried() -> None:
    assert {RunReport, Outcome, Assessment, Update, RunInfo, Selection, JournalEntry} <= set(KINDS)
    assert len(KINDS) > 25


IGNORED = {"ref", "config", "metadata", "init", "frozen", "computed_fields", "collect_init_only"}
"""What pydantic's schemas say besides: names for error messages, and its core's own defaults."""
DEFAULTS = (("strict", False), ("default_factory_takes_data", False), ("microseconds_precision", "truncate"))


def _simplify(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema as plain data, each definition where it is used, without what changes nothing."""
    if isinstance(schema, list | tuple):
        return [_simplify(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "definitions":
        return _simplify(schema["schema"], {entry["ref"]: entry for entry in schema["definitions"]})
    if schema.get("type") == "definition-ref":
        return _simplify(definitions[schema["schema_ref"]], definitions)
    said = {key: value for key, value in schema.items() if key not in IGNORED and (key, value) not in DEFAULTS}
    return {key: _simplify(value, definitions) for key, value in said.items()}


@pytest.mark.parametrize("kind", [*KINDS, *OTHER_KINDS], ids=lambda kind: kind.__name__)
def test_a_kind_is_checked_as_pydantic_would(kind: Any) -> None:
    ours, pydantics = _simplify(_build_schema(kind), {}), _simplify(TypeAdapter(kind).core_schema, {})
    assert ours == pydantics
    assert ours["schema"]["fields"]


def test_a_field_that_no_kind_has_had_is_refused() -> None:
    with pytest.raises(TypeError, match=r"complex.*yet: add it to tasks\.records\.encoding\.codec"):
        build_validator(tuple[complex, ...])


def test_the_same_types_come_back() -> None:
    report = decode(RunReport, encode(make.make_report()))
    update = report.outcomes[0].updates[0].update
    assert type(report.outcomes) is tuple
    assert type(update.classification) is type(make.make_update().classification)
    assert type(decode(Selection, encode(Selection())).classifications) is frozenset
    assert update.published is not None
    assert update.published.utcoffset() == timedelta(0)


def test_none_and_empty_stay_apart() -> None:
    assert decode(Update, encode(make.make_update(cves=None))).cves is None
    assert decode(Update, encode(make.make_update(cves=()))).cves == ()
    assert decode(Update, encode(make.make_update(installed=""))).installed == ""


def test_infinity_and_not_a_number_come_back() -> None:
    assert decode(DurationPrediction, encode(DurationPrediction(stage=float("inf")))).stage == float("inf")
    back = decode(DurationPrediction, encode(DurationPrediction(stage=float("nan")))).stage
    assert back != back  # noqa: PLR0124


def test_read_only_mappings_and_paths_are_json_data() -> None:
    request = MappingProxyType({"file": Path("/etc/fleet.yaml"), "masks": ("a", "b"), "kinds": frozenset({"x"})})
    run = decode(RunInfo, encode(make.make_run(request=request)))
    assert run.request == {"file": "/etc/fleet.yaml", "masks": ["a", "b"], "kinds": ["x"]}


def test_sets_are_written_in_one_order() -> None:
    assert json.loads(encode(Selection()))["classifications"] == ["Critical", "Security"]


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(RecordsError, match="2026-03-10T01:00:00 has no zone") as caught:
        encode(make.make_run(started_at=make.START.replace(tzinfo=None)))
    assert caught.value.hint


def test_what_json_has_no_place_for_is_refused() -> None:
    with pytest.raises(RecordsError, match="a value of type object") as caught:
        encode(make.make_journal_entry(detail={"x": object()}))
    assert "JSON data" in caught.value.hint


def test_keys_of_a_newer_minor_version_are_passed_over_and_missing_ones_get_defaults() -> None:
    data = json.loads(encode(make.make_outcome()))
    data["invented_later"] = {"x": 1}
    data["updates"][0]["update"]["invented_later"] = True
    del data["findings"]
    assert decode(Outcome, json.dumps(data)) == make.make_outcome(findings=())


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("not json", "it isn't JSON"),
        ("[]", "can't be read"),
        (encode(make.make_outcome()).replace('"state":"Succeeded"', '"state":"Evaporated"', 1), "state: Input should"),
        (encode(make.make_outcome()).replace('"machine":"web-1"', '"machine":7', 1), "machine: "),
    ],
)
def test_a_document_that_makes_no_sense_is_refused_by_name(document: str, said: str) -> None:
    with pytest.raises(RecordsError, match=f"a stored Outcome can't be read: .*{said}|{said}") as caught:
        decode(Outcome, document)
    assert "newer fleetpatch" in caught.value.hint


def test_moments_are_written_in_utc() -> None:
    east = datetime(2026, 3, 10, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    document = encode(make.make_run(started_at=east))
    assert json.loads(document)["started_at"] == "2026-03-10T01:00:00+00:00"
    assert decode(RunInfo, document).started_at == datetime(2026, 3, 10, 1, tzinfo=UTC)
