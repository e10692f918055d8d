"""What machines answer is believed only when it makes sense, and shown only when it is harmless."""

import csv
import io
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.errors import FleetpatchError
from tasks.domain.errors import ProtocolViolation
from tasks.domain.model import Outcome, RunReport, Selection
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import OperationState, UpdateState
from tasks.machines.managers.apt.assessment import parse_apt_assessment
from tasks.machines.managers.apt.output_parsers import PackageChange
from tasks.machines.managers.apt.pending_updates import AptState, build_pending_updates, with_pro_updates
from tasks.machines.transport.output_decoder import (
    MAX_RECORDS_BYTES,
    ScriptOutputDecoder,
    build_frame_mark,
    parse_record,
)
from tasks.reports.writer import write_report
from tasks.rules.updates.selection import select_updates
from tests.contract.cli.conftest import Stage, security
from tests.support.builders import make_package_state, make_update
from tests.support.fake_transport import SimulatedJob
from tests.support.fleet import SimFleet, outcome_of
from tests.support.sim_machine import SimMachine
from tests.unit.managers.recordings import recorded

NASTY = "\x1b]0;pwned\x07\x1b[2J<script>alert(1)</script>[bold]../../etc/passwd\r\n=cmd|' /C calc'!A0\u202e\x00"
ENDLESS, INFINITE, NAN = 10**400, float("inf"), float("nan")
DISK = {"role": "system", "mount": "/", "total_kib": 10**8, "free_kib": 10**8, "free_files": None, "read_only": False}

SENSELESS: list[tuple[str, list[dict[str, Any]], str]] = [
    # kind of record, what stands for all records of that kind, what the reason names
    ("os", [], "0 records 'os'"),
    ("os", [{"id": "a", "version": "1", "name": "b"}] * 2, "2 records 'os'"),
    ("os", [{"id": 5, "version": "1", "name": "b"}], "os.id"),
    ("os", [{"id": "a", "version": None, "name": "b"}], "os.version"),
    ("os", [{"id": "a", "version": "1", "name": ["b"]}], "os.name"),
    ("kernel", [], "0 records 'kernel'"),
    *(
        ("kernel", [{"release": "6", "arch": "x", "boot_id": "b", "uptime": bad}], "kernel.uptime")
        for bad in (-1.0, INFINITE, 1e300, "long", True, ENDLESS)
    ),
    ("kernel", [{"release": "6", "arch": "x", "uptime": 1.0}], "kernel.boot_id"),
    *(("clock", [{"epoch": bad}], "clock") for bad in (0, -5.0, INFINITE, NAN, 1e300, 9.4e12, ENDLESS, "now", None)),
    ("clock", [], "0 records 'clock'"),
    ("privilege", [{"way": 0}], "privilege.way"),
    ("runner", [{"name": "systemd", "can_reboot": "yes"}], "runner.can_reboot"),
    ("runner", [{"can_reboot": True}], "runner.name"),
    ("manager", [{"name": ""}], "manager.name"),
    ("manager", [{"name": 5}], "manager.name"),
    ("socket", [{"name": {}}], "socket.name"),
    ("services", [{}], "services.failed_known"),
    ("services", [], "0 records 'services'"),
    ("disk", [{**DISK, "total_kib": -1}], "disk.total_kib"),
    ("disk", [{**DISK, "total_kib": 1e9}], "disk.total_kib"),
    ("disk", [{**DISK, "free_files": -1}], "disk.free_files"),
    ("disk", [{**DISK, "read_only": "no"}], "disk.read_only"),
    ("disk", [{**DISK, "mount": None}], "disk.mount"),
    ("disk", [{"role": "system"}], "disk.mount"),
    ("os", [{"id": "a", "version": "1", "name": "x" * 1_000_000}], "a text of 1,000,000 characters (os name)"),
    ("service", [{"name": f"unit-{number}"} for number in range(10_001)], "10,001 failed"),
    ("finding", [{"check": "disk", "level": "warn", "message": "m"}] * 201, "201 findings"),
    ("clock", [{"epoch": 99_999_999_999.0}], "the clock is"),
    ("clock", [{"epoch": 1.0}], "the clock is"),
]

ODD: list[tuple[str, list[dict[str, Any]]]] = [
    ("os", [{"id": NASTY, "version": NASTY, "name": NASTY}]),
    ("kernel", [{"release": NASTY, "arch": NASTY, "boot_id": "../../etc", "uptime": None}]),
    ("privilege", [{"way": NASTY}]),
    ("socket", [{"name": f"tcp/{number}"} for number in range(5000)]),
    ("service", [{"name": NASTY}, {"name": "../../etc/passwd"}]),
    ("manager", [{"name": NASTY}]),
    ("disk", [{**DISK, "mount": NASTY, "total_kib": 10**30, "free_kib": 10**30, "free_files": 2**64}]),
]

EVENTS: list[list[dict[str, Any]]] = [
    [{"kind": "transaction_started", "number": INFINITE, "at": 1e9}],
    [{"kind": "transaction_started", "number": ENDLESS, "at": ENDLESS}],
    [{"kind": "transaction_started", "number": "one", "at": "now"}],
    [{"kind": "transaction_started", "number": 99, "at": 1e9}],
    [{"kind": "transaction_started", "number": True, "at": True}],
    [{"kind": "transaction_ended", "number": 1, "exit_code": 0, "at": 1}],
    [{"kind": "transaction_started", "number": 1, "at": 99_999_999_999}, {"kind": "transaction_ended", "number": 1}],
    [{"kind": "transaction_started", "number": 1}, {"kind": "transaction_ended", "number": 1, "exit_code": 0, "at": 1}],
    [{"kind": "transaction_started", "number": 1}, {"kind": "transaction_ended", "number": 1, "exit_code": [NASTY]}],
    [{"kind": "transaction_started", "number": 1}] * 3,
    [{"kind": "progress", "number": 1, "percent": INFINITE, "update": NASTY, "action": [NASTY]}],
    [{"kind": "progress", "number": 1, "percent": NAN}],
    [{"kind": "progress", "number": 1, "percent": -1e300}],
    [{"kind": "configuration_kept", "path": NASTY}, {"kind": "configuration_kept", "path": {"a": 1}}],
    [{"kind": "not_attempted", "number": 1, "why": NASTY, "detail": [NASTY]}],
    [{"kind": "not_attempted", "number": 1, "why": "window", "at": NAN}],
    [{"kind": "not_attempted", "number": 1, "why": "window", "at": ENDLESS}],
    [{"kind": "transaction_done_and_dusted", "number": 1}],
    [{"kind": NASTY}],
    [{"kind": "x", "n": number} for number in range(2000)],
    [],
]

CLAIMS: list[dict[str, Any] | list[dict[str, Any]]] = [
    [],
    {"kind": NASTY},
    {"kind": "refused", "why": NASTY},
    {"kind": "refused", "why": {"a": [1]}},
    {"kind": "taken", "run": NASTY, "by": [NASTY], "until": INFINITE},
    {"kind": "taken", "run": 5, "until": ENDLESS},
    {"kind": "taken"},
]

LINES: list[tuple[bytes, str]] = [
    (b"", "Expecting value"),
    (b"null", "not an object"),
    (b"[]", "not an object"),
    (b'{"kind": 5}', "not an object"),
    (b'{"kind": "a", "n": 1e999}', "no number"),
    (b'{"kind": "a", "n": -1e999}', "no number"),
    (b'{"kind": "a", "n": NaN}', "no number"),
    (b'{"kind": "a", "n": Infinity}', "no number"),
    (b'{"kind": "a", "n": ' + b"9" * 21 + b"}", "no number"),
    (b'{"kind": "a", "n": ' + b"9" * 5000 + b"}", "no number"),
    (b'{"kind": "a", "n": "\\ud800"}', "surrogates"),
    (b'{"kind": "a", "n": ' + b"[" * 50_000, "nested too deeply"),
    (b'{"kind": "a"} {"kind": "b"}', "Extra data"),
    (b"\xff\xfe", "Expecting value"),
    (b"<html>", "Expecting value"),
]

MARK = build_frame_mark("00").encode()

STREAMS: list[tuple[bytes, str]] = [
    (b"", "no end"),
    (b"Debian GNU/Linux\r\n\x1b[2J" * 1000, "no end"),
    (MARK + b'= {"kind": "a"}\n', "no end"),
    (MARK + b"! 0", "no end"),
    (MARK + b"! zero\n", "no exit code"),
    (MARK + b"! -1\n", "no exit code"),
    (MARK + b"! 1000\n", "no exit code"),
    (MARK + b"! \n", "no exit code"),
    (MARK + b'+ {"kind"\n' + MARK + b"! 0\n", "no end"),
    (MARK + b"? what\n", "neither a record nor an end"),
    (MARK + b"= [1]\n", "a record can't be read"),
    (build_frame_mark("11").encode() + b"! 0\n", "no end"),
    (MARK + b"= " + b"x" * 1_100_000, "more than"),
]


def fleet_with(prepare: Callable[[SimMachine], None]) -> tuple[RunReport, Outcome]:
    """Patch a machine that was prepared next to a healthy one; return the report, and its outcome."""
    fleet = SimFleet()
    fleet.add("good", [security("openssl")])
    bad = fleet.add("bad", [security("openssl")])
    prepare(bad)
    report = fleet.patch(waves={"failure_budget_count": 5})
    assert outcome_of(report, "good").state is OperationState.SUCCEEDED
    outcome = outcome_of(report, "bad")
    assert outcome.error is None or outcome.error.kind != "InternalError", outcome.reason
    if outcome.state is not OperationState.SUCCEEDED:
        assert outcome.reason
    return report, outcome


def saying(kind: str, records: list[dict[str, Any]]) -> Callable[[SimMachine], None]:
    def prepare(machine: SimMachine) -> None:
        def facts() -> list[Mapping[str, Any]]:
            others = [record for record in machine._facts() if record["kind"] != kind]
            return [*others, *({"kind": kind, **record} for record in records)]

        machine.answer("facts", lambda _: facts())

    return prepare


@pytest.mark.parametrize(("kind", "records", "told"), SENSELESS)
def test_senseless_facts_cost_the_machine_its_run(kind: str, records: list[dict[str, Any]], told: str) -> None:
    _, outcome = fleet_with(saying(kind, records))
    assert outcome.state is OperationState.FAILED
    assert told in outcome.reason
    assert outcome.install is None
    assert len(outcome.reason) < 2000


@pytest.mark.parametrize(("kind", "records"), ODD)
def test_odd_facts_are_kept_and_shown_harmlessly(kind: str, records: list[dict[str, Any]]) -> None:
    _, outcome = fleet_with(saying(kind, records))
    assert outcome.state is OperationState.SUCCEEDED


@pytest.mark.parametrize("events", EVENTS)
def test_a_job_that_lies_has_installed_nothing(events: list[dict[str, Any]]) -> None:
    steps = tuple((0.1, event) for event in events)
    _, outcome = fleet_with(lambda machine: machine.job("fake_job", SimulatedJob(steps, seconds=1, log=NASTY * 50)))
    assert outcome.state is not OperationState.SUCCEEDED
    assert {result.state for result in outcome.updates} <= {UpdateState.NOT_ATTEMPTED, UpdateState.FAILED}
    assert all(result.reason for result in outcome.updates)


@pytest.mark.parametrize("answer", CLAIMS)
def test_a_lock_that_makes_no_sense_is_none(answer: Any) -> None:
    _, outcome = fleet_with(lambda machine: machine.answer("machine_lock", answer))
    assert outcome.state is OperationState.FAILED
    assert "machine lock" in outcome.reason


@pytest.mark.parametrize(("line", "told"), LINES)
def test_a_line_that_is_no_record(line: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_record(line)


@pytest.mark.parametrize(("stream", "told"), STREAMS)
def test_an_answer_that_is_none(stream: bytes, told: str) -> None:
    decoder = ScriptOutputDecoder("00")
    with pytest.raises(ProtocolViolation, match=told) as caught:  # noqa: PT012 - either may be the one to see it
        decoder.feed_stdout(stream)
        decoder.build_output()
    assert len(caught.value.message) < 2000


def test_a_flood_of_records_is_cut_off() -> None:
    record = MARK + b'= {"kind": "a", "t": "' + b"x" * 900_000 + b'"}\n'
    decoder = ScriptOutputDecoder("00")
    with pytest.raises(ProtocolViolation, match=str(MAX_RECORDS_BYTES)):  # noqa: PT012
        for _ in range(25):
            decoder.feed_stdout(record)


@settings(max_examples=20)
@given(st.lists(st.sampled_from([MARK, b"! 0\n", b"= ", b"+ ", b'{"kind": "a"}', b"\n", b"\r", b"\xff"]), max_size=12))
def test_any_stream_is_an_answer_or_a_violation(parts: list[bytes]) -> None:
    decoder = ScriptOutputDecoder("00")
    try:
        for part in parts:
            decoder.feed_stdout(part)
        decoded = decoder.build_output()
    except ProtocolViolation:
        return
    assert decoded.exit_code == 0


def replaced(name: str, text: str) -> ScriptResult:
    """A real assessment in which one section says something else."""
    records = [
        {**record, "text": text} if record["kind"] == "section" and record["name"] == name else record
        for record in recorded("debian-12.apt_assess").records
    ]
    return ScriptResult(records=tuple(records), exit_code=0)


SECTIONS = ["update", "odd", "policy", "releases", "upgrade", "versions", "audit", "needrestart", "timers", "periodic"]
TEXTS = {
    "nothing": "",
    "escapes": NASTY * 20,
    "one long line": "<" * 300_000,
    "numbers": "99999999999999999999999999 -1 1e999 NaN\n" * 50,
    "columns": "\t" * 20_000 + ":\n" * 5000,
    "apt's own words": "Inst ../../x [1] (2 [amd64])\nInst a (\nE: \nErr:\nW: \nRemv \n" * 50,
    "headers": "../../etc:\n  Installed: (none)\n  Candidate: 9\n  Version table:\n     9 500\n" * 200,
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("section", SECTIONS)
def test_apt_s_answers_garbled(section: str, text: str) -> None:
    began = time.process_time()
    try:
        state = parse_apt_assessment(replaced(section, TEXTS[text]))
    except FleetpatchError as error:
        assert len(error.message) < 5000  # noqa: PT017 - an honest error is as good
    else:
        assert all(update.available for update in state.updates)
    assert time.process_time() - began < 2


PRO = [
    "",
    "null",
    "[" * 20_000,
    '{"data": 5}',
    '{"data": {"attributes": {"updates": {"a": 1}}}}',
    '{"data": {"attributes": {"updates": [5, null, "x", []]}}}',
    *(
        '{"data": {"attributes": {"updates": [{"package": "p", ' + more + "}]}}}"
        for more in (
            '"status": []',
            '"status": "pending_attach", "download_size": -5',
            '"status": "pending_attach", "download_size": 1e999',
            '"status": "pending_attach", "download_size": ' + "9" * 400,
            '"status": "pending_enable", "provided_by": {"a": 1}, "version": [1], "related_cves": {"a": 1}',
            '"related_cves": [[1], null, {}]',
        )
    ),
]


@pytest.mark.parametrize("answer", PRO)
def test_what_ubuntu_pro_says(answer: str) -> None:
    for update in with_pro_updates((make_update(name="p"),), answer, "amd64", {}):
        assert update.size_bytes is None or 0 <= update.size_bytes < 2**63
        json.dumps(update.name)


def test_work_grows_no_faster_than_what_a_machine_sends() -> None:
    """Chains of dependencies, and catalogues in which everything replaces everything."""

    def work(size: int) -> int:
        p = f"p{size}-"  # names that no cache knows
        chain = [PackageChange(f"{p}{n}", "amd64", None, "1", ()) for n in range(size)]
        stanzas = tuple({"Package": f"{p}{n}", "Version": "1", "Depends": f"{p}{n + 1}"} for n in range(size))
        many = tuple(make_update(name=f"{p}{n}", kb=f"KB{n}", replaces=(f"KB{n - 1}", "KB0")) for n in range(size))
        held = tuple(f"x{n}" for n in range(7 * size))
        state = make_package_state(updates=many, held=held)
        calls, began = [0], time.process_time()
        sys.setprofile(lambda *_: calls.__setitem__(0, calls[0] + 1))
        try:
            found = build_pending_updates(AptState("amd64", (), {}, frozenset(), stanzas, tuple(chain)))
            chosen, skipped = select_updates(state, Selection())
        finally:
            sys.setprofile(None)
        assert time.process_time() - began < 120  # what calls nothing can grow as well
        assert len(found) == len(chosen) + len(skipped) == size
        return calls[0]

    assert work(3000) < 15 * work(300)  # ten times as much for ten times as many; the square would be a hundred


def test_updates_of_one_id_are_each_told_once() -> None:
    twins = (make_update(available="1"), make_update(available="2"))
    chosen, skipped = select_updates(make_package_state(updates=twins), Selection())
    assert [*chosen, *(result.update for result in skipped)] == list(twins)


def test_a_machine_s_words_reach_no_terminal_page_or_file_unwashed(stage: Stage, tmp_path: Path) -> None:
    bad = stage.add("bad", security("../../etc/" + "x" * 20), security("openssl", fails=NASTY))
    saying("os", [{"id": NASTY, "version": NASTY, "name": NASTY}])(bad)
    place = tmp_path / "reports"
    told = [stage.run("patch", "*", "--no-prefect", "--yes", "--report", str(place))]
    views = ((), ("--machine", "bad"), ("--log",), ("--journal",), ("--json",))
    told += [stage.run("show", "last", *more) for more in views]
    told += [stage.run(*words) for words in (("why", "bad"), ("machines",), ("updates", "--by", "machine"))]
    for said in told:
        assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said.out + said.err) == []
        assert "Traceback" not in said.err
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".html", ".csv", ".json", ".parquet"}
    for path in files:
        if path.suffix != ".parquet":
            text = path.read_text(encoding="utf-8")
            assert re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", text) == [], path
            assert path.suffix != ".html" or "<script" not in text
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row] if path.suffix == ".csv" else []
            assert [cell for cell in cells if cell.startswith(("=", "+", "@"))] == []


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "..", "a/b", "\x00", "con\n", "x" * 300])
def test_a_machine_s_name_leads_nowhere(tmp_path: Path, name: str) -> None:
    fleet = SimFleet()
    fleet.add("web", [security("openssl")])
    report = fleet.patch()
    (tmp_path / "reports").mkdir()
    write_report(report, tmp_path / "reports", {name: NASTY}, ["json"])
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 2
    assert all(path.parent.parent.parent.name == "reports" or path.parent.parent.name == "reports" for path in written)
