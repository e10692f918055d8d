"""Enrolments of components, and the tries that outcomes tell, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.domain.components import ComponentEnrolment, ComponentTry, InstalledComponent
from tasks.domain.model import Outcome, UpdateResult
from tasks.domain.states import OperationState, UpdateState
from tasks.records.components import SqlComponents
from tasks.records.queries.machines import read_installed_components
from tasks.records.sql_records import SqlRecords
from tasks.rules.components.choice import build_component_update, choose_version
from tasks.rules.components.tries import find_try
from tests.contract.records_subjects import BOTH, opened
from tests.support import builders as make
from tests.support.components import make_component

ENROLMENT = ComponentEnrolment("exporter", "env=prod", "anne", make.START)
COMPONENT = make_component()


@pytest.fixture(params=BOTH)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRecords]:
    with opened(request.param, tmp_path) as made:
        yield made


def test_an_enrolment_is_stored_once_and_ended_once(records: SqlRecords) -> None:
    components = SqlComponents(records.database)
    assert components.enrol(ENROLMENT)
    assert not components.enrol(replace(ENROLMENT, scope=" env=prod ", by="bert", at=make.at(60)))
    other = replace(ENROLMENT, scope="env=test")
    assert components.enrol(other)
    assert set(components.read_enrolments()) == {ENROLMENT, other}
    assert components.unenrol("exporter", "env=prod ")
    assert not components.unenrol("exporter", "env=prod")
    assert not components.unenrol("agent", "env=test")
    assert components.read_enrolments() == (other,)


def outcome(machine: str, state: UpdateState, whole: OperationState, run_id: str, **changes: object) -> Outcome:
    installed = InstalledComponent("exporter", "1.0.0")
    choice = choose_version(COMPONENT, installed, COMPONENT.family, (), machine, make.START)
    update = build_component_update(COMPONENT, choice)
    assert update is not None
    reason = "" if state is UpdateState.INSTALLED else "it was taken back"
    result = UpdateResult(update, state, reason, "1.1.0" if state is UpdateState.INSTALLED else "1.0.0")
    base = make.make_outcome(machine=machine, state=whole, run_id=run_id)
    install = replace(make.make_install_result(), results=(result,))
    return replace(base, updates=(result,), install=install, **changes)  # type: ignore[arg-type]


def test_the_records_tell_the_tries_that_outcomes_tell(records: SqlRecords) -> None:
    good, bad = OperationState.SUCCEEDED, OperationState.FAILED
    made = [
        outcome("a", UpdateState.INSTALLED, good, "r1", ended_at=make.at(10)),
        outcome("b", UpdateState.FAILED, bad, "r1", ended_at=make.at(20)),
        outcome("c", UpdateState.INSTALLED, bad, "r1", ended_at=make.at(30)),
        outcome("d", UpdateState.PENDING, OperationState.UNKNOWN, "r1", ended_at=make.at(40)),
        outcome("e", UpdateState.NOT_ATTEMPTED, OperationState.NOT_STARTED, "r1", ended_at=make.at(50)),
        outcome("f", UpdateState.BLOCKED, good, "r1", ended_at=make.at(60)),
    ]
    refused = outcome("g", UpdateState.FAILED, bad, "r1", ended_at=make.at(70))
    assert refused.install is not None
    made.append(replace(refused, install=replace(refused.install, transactions=())))
    records.save(make.make_run(id="r1", kind="patch"))
    records.save(make.make_run(id="p1", kind="plan"))
    for one in made:
        records.save(one)
    records.save(outcome("a", UpdateState.PENDING, OperationState.NOT_STARTED, "p1", ended_at=make.at(5)))
    expected: list[ComponentTry | None] = [find_try(one) for one in made]
    assert [one is not None for one in expected] == [True, True, True, True, False, False, True]
    tries = SqlComponents(records.database).read_tries("exporter")
    assert list(tries) == [one for one in expected if one is not None]
    assert [one.succeeded for one in tries] == [True, False, False, False, False]
    assert [one.was_refused for one in tries] == [False, False, False, False, True]
    assert SqlComponents(records.database).read_tries("agent") == ()


def test_the_records_tell_which_components_runs_were_to_upgrade(records: SqlRecords) -> None:
    for run_id, component, kind, seconds, site in (
        ("r1", "exporter", "patch", 0, "default"),
        ("r2", "agent", "patch", 90, "default"),
        ("r3", "", "patch", 90, "default"),
        ("r4", "planned", "plan", 90, "default"),
        ("r5", "elsewhere", "patch", 90, "berlin"),
    ):
        request = {"component": component, "scope": "*"}
        records.save(make.make_run(id=run_id, kind=kind, request=request, started_at=make.at(seconds), site=site))
    components = SqlComponents(records.database)
    assert components.read_components_of_runs("default", make.at(0)) == {"exporter", "agent"}
    assert components.read_components_of_runs("default", make.at(60)) == {"agent"}


def test_a_package_of_the_same_name_is_no_component(records: SqlRecords) -> None:
    update = make.make_update(name="exporter")
    result = UpdateResult(update, UpdateState.INSTALLED, "", update.available)
    records.save(make.make_run(id="r1", kind="patch"))
    records.save(replace(make.make_outcome(machine="a", run_id="r1"), updates=(result,)))
    assert SqlComponents(records.database).read_tries("exporter") == ()


def test_the_newest_answer_tells_the_components(records: SqlRecords) -> None:
    told = (InstalledComponent("exporter", "1.0.0"), InstalledComponent("agent", None, "exit code 3"))
    packages = make.make_package_state(components=told)
    records.save(make.make_assessment(machine="a", packages=packages))
    records.save(make.make_assessment(machine="b"))
    assert read_installed_components(records.database) == {"a": {one.name: one for one in told}}
    newer = make.make_package_state(components=(InstalledComponent("exporter", "1.1.0"),))
    records.save(make.make_assessment(machine="a", at=make.at(90), packages=newer, run_id="later"))
    assert read_installed_components(records.database)["a"]["exporter"].version == "1.1.0"
