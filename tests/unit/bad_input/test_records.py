"""Records that were changed by hand, torn or written by somebody else: told plainly, left as they are."""

import sqlite3
from contextlib import closing

import pytest

from flows.engine.resume_state import parse_recorded_request
from tasks.domain.errors import RecordsError, RequestError
from tasks.domain.protocols.package_manager import JobKind as Kind
from tasks.domain.protocols.records import JournalMark
from tasks.domain.states import Step
from tasks.records.encoding.row_encoding import compress_text
from tasks.steps.checkpoint import restore_checkpoint
from tasks.steps.context import journal
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.jobs.package_job import find_submitted_transactions
from tests.contract.cli.conftest import Stage, security
from tests.support.builders import make_assessment, make_journal_entry, make_machine, make_plan, make_run
from tests.support.fleet import SimFleet

RUN = ("show", "last")
DOCUMENTS: list[tuple[str, str, tuple[str, ...]]] = [
    *(
        ("runs", bad, verb)
        for verb in (RUN, ("runs",), ("report", "last", "--format", "json"))
        for bad in ("", "null", "[]", "{}", '{"id": 5}', "{", "[" * 50_000, "\x1b[2J<script>")
    ),
    *(
        ("outcomes", bad, verb)
        for verb in (RUN, ("why", "web"))
        for bad in ("", "{}", '{"run_id": 1}', "[" * 50_000, '{"state": "\x1b[2J"}')
    ),
    *(
        ("assessments", bad, verb)
        for verb in (RUN, ("why", "web"))
        for bad in ("", "{}", '{"at": "300000-01-01T00:00:00Z"}', '{"at": 1e999}')
    ),
    *(("run_plans", bad, RUN) for bad in ("", "{}", '{"waves": 5}')),
    *(("journal", bad, ("show", "last", "--journal")) for bad in ("", "{}", '{"mark": "perhaps"}')),
]

DETAILS: list[object] = [
    {"one": {}},
    {"1": {}},
    {"1": 5},
    {"1": {"updates": 5, "latest_start": 1, "predicted": 1}},
    {"1": {"updates": [[]], "latest_start": 1, "predicted": 1}},
    {"1": {"updates": [], "latest_start": "soon", "predicted": 1}},
    {"1": {"updates": [], "latest_start": None, "predicted": 1}},
    {"1": {"updates": [], "latest_start": 10**400, "predicted": 1}},
]

PROGRESS: list[dict[str, object]] = [
    {"baseline": 5},
    {"steps": [{"step": "dance"}]},
    {"findings": "none"},
    {"halted_as": "Perhaps"},
    {"install": {"results": [5]}},
    {"reboot": {"state": "Completed", "count": "many"}},
]


def spoil(stage: Stage, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(stage.folder / "records.db")) as connection, connection:
        connection.execute(statement, values)


@pytest.fixture(scope="module")
def kept() -> dict[str, bytes]:
    return {}


@pytest.fixture
def patched(stage: Stage, kept: dict[str, bytes]) -> Stage:
    """A stage on which a run was recorded; the database is made once, and copied."""
    stage.add("web", security("openssl"))
    database = stage.folder / "records.db"
    if not kept:
        assert stage.run("patch", "*", "--no-prefect", "--yes").code == 0
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        kept["database"] = database.read_bytes()
    database.write_bytes(kept["database"])
    return stage


def assert_told(stage: Stage, verb: tuple[str, ...]) -> None:
    said = stage.run(*verb)
    assert said.code == 5, said
    assert said.err.count("error: ") == 1
    assert "hint: " in said.err
    assert "fault in fleetpatch" not in said.err
    assert "Traceback" not in said.out + said.err
    assert "\x1b" not in said.out + said.err
    assert len(said.err) < 2000


@pytest.mark.parametrize(("table", "document", "verb"), DOCUMENTS)
def test_a_document_that_makes_no_sense(patched: Stage, table: str, document: str, verb: tuple[str, ...]) -> None:
    spoil(patched, f"UPDATE {table} SET document = ?", document)
    assert_told(patched, verb)
    with closing(sqlite3.connect(patched.folder / "records.db")) as connection:
        assert {row[0] for row in connection.execute(f"SELECT document FROM {table}")} == {document}


COLUMNS = [
    ("UPDATE runs SET document = ?", b"\xff\xfe", RUN),
    ("UPDATE runs SET document = ?", 5, RUN),
    ("UPDATE assessments SET updates = ?", None, ("updates",)),
    ("UPDATE assessments SET updates = ?", b"rubbish", ("updates",)),
    ("UPDATE assessments SET updates = ?", compress_text("{}"), ("updates", "--json")),
    ("UPDATE assessments SET updates = ?", compress_text('{"updates":[{"id":"a"},{"id":"b"}]}'), ("updates",)),
    ("UPDATE assessments SET updates = ?", compress_text('{"updates":[{"id":"a"},{"id":]}'), ("updates",)),
    ("UPDATE job_outputs SET body = ?", b"rubbish", ("show", "last", "--log")),
    ("UPDATE job_outputs SET body = ?", b"", ("report", "last", "--format", "json")),
    ("UPDATE fleetpatch_schema SET version_num = ?", "v9999", ("runs",)),
]


@pytest.mark.parametrize(("statement", "value", "verb"), COLUMNS)
def test_a_column_that_makes_no_sense(patched: Stage, statement: str, value: object, verb: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(patched.folder / "records.db")) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%version_num%'")]
    spoil(patched, statement.replace("fleetpatch_schema", tables[0]), value)
    assert_told(patched, verb)


@pytest.mark.parametrize("cut", [100, 5000, 40_000])
def test_a_database_that_is_torn(patched: Stage, cut: int) -> None:
    database = patched.folder / "records.db"
    torn = database.read_bytes()[:cut] + b"\xff" * cut
    database.write_bytes(torn)
    for verb in (("runs",), RUN, ("patch", "web", "--no-prefect", "--yes")):
        said = patched.run(*verb)
        assert said.code == 5
        assert said.err.count("error: ") == 1
        assert "Traceback" not in said.err
        assert "fault in fleetpatch" not in said.err
    assert patched.fleet.machines["web"].installs() == []


def taken_up(fleet: SimFleet) -> MachineContext:
    machine = fleet.add("web-1", [security("openssl")])
    run = MachineState(make_machine(), 1, make_assessment(), make_plan(), was_changed_before_resume=True)
    return MachineContext(fleet.campaign(fleet.request())._run_context, machine, run)


@pytest.mark.parametrize("detail", DETAILS)
def test_a_journal_of_a_job_that_makes_no_sense(detail: object) -> None:
    fleet = SimFleet()
    work = taken_up(fleet)
    key = journal.build_job_id(work.run.id, work.name, "install", 0)
    entry = make_journal_entry(run_id=work.run.id, key=key, detail={"transactions": detail})
    fleet.records.append_entry(entry)
    with pytest.raises(RecordsError, match=key) as caught:
        find_submitted_transactions(work, Kind.INSTALL, 0)
    assert caught.value.hint
    assert caught.value.machine == "web-1"


@pytest.mark.parametrize("detail", PROGRESS)
def test_progress_that_makes_no_sense(detail: dict[str, object]) -> None:
    entry = make_journal_entry(act="step", step=Step.INSTALL, mark=JournalMark.AFTER, detail=detail)
    with pytest.raises(RecordsError, match="can't be understood") as caught:
        restore_checkpoint(MachineState(make_machine()), (entry,))
    assert caught.value.hint


@pytest.mark.parametrize("request_", [{}, {"scope": 5}, {"scope": "*", "nonsense": 1}, {"scope": "*", "window": []}])
def test_a_recorded_request_that_can_t_be_read(request_: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="can't be read by this version") as caught:
        parse_recorded_request(make_run(request=request_))
    assert caught.value.hint
