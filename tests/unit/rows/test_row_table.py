"""A table of rows: headings from the class, cells by the type of the column."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import pytest
from rich.console import Console

from fleetpatch.cli.runtime.row_table import Shown, build_row_table, list_column_names, parse_columns
from tasks.domain.errors import RequestError
from tasks.domain.rows import Column, row
from tasks.domain.states import Compliance
from tasks.reports.formatting import NO_FIGURE as DASH


@row
class Run:
    """A run."""

    state: Annotated[str, Column("Its state.")]


@row
class Host:
    """A machine."""

    name: Annotated[str, Column("Its name.", heading="machine")]
    compliance: Annotated[Compliance, Column("Whether it lacks something.")]
    critical: Annotated[int | None, Column("Critical updates.", unit="count")]
    size: Annotated[int | None, Column("What it takes.", unit="bytes")]
    is_new: Annotated[bool, Column("Whether it is new.")]
    answered_at: Annotated[datetime | None, Column("When it answered.", heading="answered")]
    tags: Annotated[Mapping[str, str], Column("Its tags.")]
    reason: Annotated[str, Column("Why.", is_prose=True)]
    last_run: Annotated[Run | None, Column("The newest run.")]


WEB = Host(
    name="[bold]web\x1b",
    compliance=Compliance.NON_COMPLIANT,
    critical=3,
    size=2_500_000_000,
    is_new=True,
    answered_at=datetime(2026, 11, 27, 2, 5, tzinfo=UTC),
    tags={"env": "prod"},
    reason="",
    last_run=Run(state="Succeeded"),
)
SILENT = Host(
    name="db",
    compliance=Compliance.NOT_ASSESSED,
    critical=None,
    size=None,
    is_new=False,
    answered_at=None,
    tags={},
    reason="never assessed",
    last_run=None,
)


def _print(columns: list[str | Shown], width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(build_row_table(Host, [WEB, SILENT], columns))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_cells_are_written_by_their_type() -> None:
    shown = _print(["name", "compliance", "critical", "size", "is_new", "answered_at", "tags", "last_run.state"])
    assert shown[0].split("  ")[0] == "machine"
    assert (
        " ".join(shown[2].split()) == r"[bold]web\u001b NonCompliant 3 2.5 GB yes 2026-11-27 02:05 env=prod Succeeded"
    )
    assert " ".join(shown[3].split()) == f"db NotAssessed {DASH} {DASH} no {DASH} {DASH} {DASH}"


def test_only_prose_is_on_several_lines() -> None:
    shown = _print(["name", "compliance", "reason"], width=42)
    assert [line.split() for line in shown[3:]] == [["db", "NotAssessed", "never"], ["assessed"]]


def test_a_column_of_a_view_differs_where_it_says_so() -> None:
    shown = _print([Shown("critical", heading="crit", render=lambda host: f"[{host.critical}]"), "name"])
    assert [shown[number].split()[0] for number in (0, 2, 3)] == ["crit", "[3]", "[None]"]


def test_people_choose_columns_by_name() -> None:
    assert parse_columns(Host, "name, last_run.state,answered-at") == ["name", "last_run.state", "answered_at"]
    assert list_column_names(Host)[-1] == "last_run.state"
    with pytest.raises(RequestError, match="no column 'complience'") as caught:
        parse_columns(Host, "complience")
    assert "Did you mean 'compliance'?" in caught.value.hint
    with pytest.raises(RequestError, match="no column is chosen"):
        parse_columns(Host, " ,")
