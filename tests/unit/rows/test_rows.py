"""A column is described once: every surface takes its name, type and text from there."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import pyarrow as pa
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from tasks.domain.rows import Column, list_fields, row
from tasks.domain.rows.columns import list_kinds, read_columns
from tasks.domain.states import Compliance
from tasks.reports.export.tabular_formats import build_arrow_array, build_arrow_kinds, build_row_json, iterate_csv_rows


@row
class LastRun:
    """The newest run."""

    run_id: Annotated[str, Column("The run.", json_name="maintenanceRunId")]
    state: Annotated[str, Column("The machine's state in it.")]


@row
class Machine:
    """A machine."""

    name: Annotated[str, Column("Its name in the inventory.", json_name="machineName", heading="machine")]
    compliance: Annotated[Compliance, Column("Whether it lacks something.", json_name="complianceState")]
    critical: Annotated[int | None, Column("Critical updates that it lacks.", unit="count")]
    assessed_at: Annotated[datetime | None, Column("When it answered.")]
    tags: Annotated[Mapping[str, str], Column("Its tags.")]
    groups: Annotated[tuple[str, ...], Column("Its groups.")]
    last_run: Annotated[LastRun | None, Column("The newest run.")]


AT = datetime(2026, 11, 27, 3, 0, tzinfo=timezone(timedelta(hours=1)))
WEB = Machine(
    name="=web",
    compliance=Compliance.COMPLIANT,
    critical=0,
    assessed_at=AT,
    tags={"env": "prod"},
    groups=("a", "b"),
    last_run=LastRun(run_id="r1", state="Succeeded"),
)
SILENT = Machine(
    name="db", compliance=Compliance.NOT_ASSESSED, critical=None, assessed_at=None, tags={}, groups=(), last_run=None
)


def test_json_has_azures_names_and_null_for_what_is_not_known() -> None:
    assert build_row_json(WEB) == {
        "machineName": "=web",
        "complianceState": "Compliant",
        "critical": 0,
        "assessedDateTime": "2026-11-27T02:00:00Z",
        "tags": {"env": "prod"},
        "groups": ["a", "b"],
        "lastRun": {"maintenanceRunId": "r1", "state": "Succeeded"},
    }
    assert build_row_json(SILENT)["critical"] is None
    assert build_row_json(SILENT)["lastRun"] is None


def test_csv_has_the_columns_names_and_escapes_formulas() -> None:
    names, web, silent = iterate_csv_rows(Machine, [WEB, SILENT])
    assert names == [
        *("name", "compliance", "critical", "assessed_at", "tags", "groups", "last_run_run_id", "last_run_state")
    ]
    assert web == ["'=web", "Compliant", 0, "2026-11-27T02:00:00Z", "env=prod", "a; b", "r1", "Succeeded"]
    assert silent == ["db", "NotAssessed", "", "", "", "", "", ""]


def build_arrow_table(row_type: type, rows: Sequence[object]) -> pa.Table:
    schema = build_arrow_kinds(list_kinds(row_type))
    arrays = [
        build_arrow_array([list(v.items()) if field.kind == "map" else v for v in values], schema.field(name).type)
        for name, field, values in read_columns(row_type, rows)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def test_arrow_has_the_columns_types_and_nulls() -> None:
    table = build_arrow_table(Machine, [WEB, SILENT])
    assert table.column_names == next(iterate_csv_rows(Machine, []))
    assert table["last_run_state"].to_pylist() == ["Succeeded", None]
    assert table["assessed_at"].to_pylist() == [AT.astimezone(UTC), None]
    assert table["critical"].to_pylist() == [0, None]
    assert table["tags"].to_pylist(maps_as_pydicts="strict") == [{"env": "prod"}, {}]


def test_arrow_bears_text_that_is_no_text() -> None:
    broken = Machine(
        **{field.name: getattr(SILENT, field.name) for field in list_fields(Machine)} | {"name": "a\udcffb"}
    )
    assert build_arrow_table(Machine, [broken])["name"].to_pylist() == ["a?b"]


def test_the_api_documents_a_row_by_its_columns() -> None:
    app = FastAPI()

    @app.get("/machines")
    def list_machines() -> list[Machine]:
        return [WEB]

    schemas = app.openapi()["components"]["schemas"]
    properties = schemas["Machine"]["properties"]
    assert list(properties) == [field.json_name for field in list_fields(Machine)]
    assert properties["machineName"]["description"] == "Its name in the inventory."
    assert schemas["LastRun"]["required"] == ["maintenanceRunId", "state"]


def test_a_single_value_is_a_list_where_azure_allows_several() -> None:
    @row
    class Update:
        classification: Annotated[Compliance, Column("Of it.", json_name="classifications", is_list_in_json=True)]

    update = Update(classification=Compliance.COMPLIANT)
    assert build_row_json(update) == {"classifications": ["Compliant"]}
    assert list(iterate_csv_rows(Update, [update])) == [["classification"], ["Compliant"]]
    schema = TypeAdapter(Update).json_schema(mode="serialization")["properties"]["classifications"]
    assert schema["type"] == "array"
    assert schema["description"] == "Of it."


def test_headings_are_the_columns_words() -> None:
    assert [field.heading for field in list_fields(Machine)][:4] == ["machine", "compliance", "critical", "assessed at"]


def test_a_field_without_a_column_is_refused() -> None:
    class Bare:
        name: str

    with pytest.raises(TypeError, match="annotated with one Column"):
        row(Bare)


def test_a_type_that_no_surface_shows_is_refused() -> None:
    class Odd:
        value: Annotated[complex, Column("A number.")]

    with pytest.raises(TypeError, match="no surface can show"):
        row(Odd)


def test_two_columns_of_one_json_name_are_refused() -> None:
    class Twice:
        one: Annotated[str, Column("One.", json_name="name")]
        two: Annotated[str, Column("Two.", json_name="name")]

    with pytest.raises(TypeError, match="same name in JSON"):
        row(Twice)
