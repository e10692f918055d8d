"""A column of the machine's row is a column everywhere."""

from typing import Any

from fleetpatch.api.models import MachineDetails
from fleetpatch.cli.runtime.row_table import list_column_names
from tasks.domain.protocols.tables import TABLES
from tasks.domain.rows import list_fields
from tasks.domain.rows.machines import MachineRow
from tasks.records.machine_rows import Plans, RecordedState, build_machine_row, summarize_answer
from tasks.reports.export.tabular_formats import build_row_json, iterate_csv_rows
from tests.support.builders import START, make_assessment, make_facts, make_machine


def test_query_csv_and_terminal_have_the_columns_of_the_row() -> None:
    (names,) = iterate_csv_rows(MachineRow, [])
    assert list(TABLES["machines"]) == names
    assert [name.replace(".", "_") for name in list_column_names(MachineRow)] == names


def test_one_machine_of_the_api_has_the_columns_of_the_list_and_its_updates() -> None:
    assert list_fields(MachineDetails)[:-1] == list_fields(MachineRow)
    assert list_fields(MachineDetails)[-1].name == "patches"


def test_what_was_never_said_is_null_and_not_zero() -> None:
    never = build_row_json(build_machine_row("web", make_machine(), None, START, plans=Plans()))
    for name in ("criticalPatchCount", "otherPatchCount", "servicesToRestart", "kernel", "osName", "problemCount"):
        assert never[name] is None, name
    assert (never["readiness"], never["readinessReason"]) == ("Unknown", "never assessed")
    unread = build_row_json(build_machine_row("web", make_machine(), None, START, plans=None))
    assert (unread["configurations"], unread["isAutomatic"], unread["patchMode"]) == (None, None, None)


def test_a_machine_of_no_inventory_is_not_called_ready() -> None:
    state = build_state("good")
    assert build_machine_row("web", make_machine(), state, START, plans=None).readiness == "Ready"
    for has_inventory, reason in ((True, "it is not in the inventory"), (False, "there is no inventory")):
        row = build_machine_row("web", None, state, START, plans=None, has_inventory=has_inventory)
        assert (row.readiness, row.readiness_reason) == ("Unknown", reason)
    assert build_machine_row("web", None, build_state("block"), START, plans=None).readiness == "Not ready"


def build_state(level: str) -> RecordedState:
    """Return what the records say of a machine whose answer has a worst finding of a level."""
    texts = ("error_kind", "error_message", "os_id", "os_version", "os_name", "manager")
    counts = ("critical", "security", "other", "withheld", "services_to_restart", "problems", "findings")
    values: dict[str, Any] = {**dict.fromkeys(texts, ""), **dict.fromkeys(counts, 0)}
    return RecordedState(
        **values,
        machine="web",
        run_id="r1",
        at=START,
        answered_at=START,
        compliance="Compliant",
        reboot="no",
        reboot_since=None,
        details={"level": level, "reason": "because"},
    )


def test_an_answer_says_its_kernel() -> None:
    assert summarize_answer(make_assessment(facts=make_facts(kernel="6.1.0-42")))["kernel"] == "6.1.0-42"
