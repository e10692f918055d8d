"""What `fleetpatch automatic` and `fleetpatch compliance` print of a fleet in the middle of a rollout."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.preview.automatic_status import explain_automatic
from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import get_stderr_console, get_stdout_console
from fleetpatch.cli.views.automatic import build_automatic_json, print_automatic_status
from fleetpatch.cli.views.automatic_explanation import build_automatic_explanation_json, print_automatic_explanation
from fleetpatch.cli.views.compliance import (
    ComplianceView,
    build_compliance_json,
    print_compliance,
    to_compliance_exit_code,
)
from flows.automatic.flow import render_decision
from tasks.domain.errors import RequestError
from tasks.rules.automatic.forecast import MachineForecast, forecast
from tasks.rules.automatic.model import AutomaticDecision, FleetView, Phase, Rollout, RolloutState
from tasks.rules.automatic.progress import (
    MachineStage,
    PhaseStage,
    measure_recorded_rollout,
    measure_rollout,
    measure_shown_rollout,
)
from tests.support.rollouts import BEGIN, NOW, REQUEST, make_progress, make_rollout, make_status, make_view

EXPECTED = Path(__file__).parents[2] / "data" / "automatic_views"


@pytest.fixture(params=[80, 120])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal of this width in Berlin."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    for console in (get_stdout_console, get_stderr_console):
        console.cache_clear()
    yield request.param
    monkeypatch.undo()
    time.tzset()
    for console in (get_stdout_console, get_stderr_console):
        console.cache_clear()


def check(name: str, said: str) -> None:
    """Compare a text with the one that a person has read. Lines end where their last word ends."""
    text = "".join(f"{line.rstrip()}\n" for line in said.splitlines())
    assert text == (EXPECTED / name).read_text(encoding="utf-8")


def test_the_status_is_as_it_was_read(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_automatic_status(make_status())
    said = capsys.readouterr()
    check(f"status-{width}.txt", said.out)
    check(f"feeds-{width}.txt", said.err)


def test_every_waiting_machine_is_listed_on_demand(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    status = make_status()
    print_automatic_status(status, show_all=True)
    said = capsys.readouterr().out.splitlines()
    expected = sorted(each.machine for each in status.decision.waiting if each.machine not in {"lon-3", "lon-7"})
    assert [name for name in expected if sum(line.startswith(f"{name} ") for line in said) != 1] == []
    assert width


@pytest.mark.parametrize("name", ["ams-1", "lon-3", "fra-1"])
def test_the_explanation_of_a_machine_is_as_it_was_read(
    width: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_automatic_explanation(explain_automatic(make_status(), name))
    check(f"explain-{name}-{width}.txt", capsys.readouterr().out)


def test_a_machine_that_is_not_managed_is_named_with_a_remedy() -> None:
    with pytest.raises(RequestError, match="db-9 is not patched automatically") as caught:
        explain_automatic(make_status(), "db-9")
    assert "owner is `managed`" in caught.value.hint


def test_a_switched_off_policy_and_an_empty_fleet_are_said(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    status = make_status(REQUEST.model_copy(update={"enabled": False}))
    empty = replace(status, view=FleetView(()), decision=AutomaticDecision(), progress=None, next_runs=())
    print_automatic_status(empty)
    said = capsys.readouterr().out
    assert "off: nothing is started" in said
    assert "No rollout yet." in said
    assert "No machine waits." in said
    assert width


def make_forecasts() -> tuple[MachineForecast, ...]:
    """Return forecasts of a fleet in which one machine is off for a month, and another one for a week less."""
    view = make_view()
    late = {"ams-14": 33, "lon-3": 20}
    machines = tuple(
        replace(
            machine,
            pending=tuple(
                replace(each, since=each.since - timedelta(days=late.get(machine.name, 0))) for each in machine.pending
            ),
        )
        for machine in view.machines
        if machine.location in ("fra", "ams", "cph") or machine.name in late
    )
    return forecast(REQUEST.to_policy(), replace(view, machines=machines), NOW)


def test_compliance_is_as_it_was_read(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_compliance(ComplianceView(NOW, make_forecasts()))
    check(f"compliance-{width}.txt", capsys.readouterr().out)


def exit_code(forecasts: Sequence[MachineForecast]) -> ExitCode:
    return to_compliance_exit_code(ComplianceView(NOW, forecasts))


def test_compliance_is_sorted_by_urgency_and_says_so_with_its_exit_code() -> None:
    forecasts = make_forecasts()
    document = build_compliance_json(ComplianceView(NOW, forecasts))
    machines = document["machines"]
    assert isinstance(machines, list)
    assert [(each["machineName"], each["state"]) for each in machines[:3]] == [
        ("ams-14", "breached"),
        ("lon-3", "will breach"),
        ("ams-1", "in time"),
    ]
    assert exit_code(forecasts) is ExitCode.MACHINE_FAILED
    assert exit_code([each for each in forecasts if each.machine != "ams-14"]) is ExitCode.WARNINGS
    assert exit_code([each for each in forecasts if each.machine[:3] == "fra"]) is ExitCode.SUCCESS
    assert exit_code([]) is ExitCode.WARNINGS


def test_all_of_it_is_json() -> None:
    status = make_status()
    document = json.loads(json.dumps(build_automatic_json(status)))
    assert document["rollout"]["phases"][1]["counts"] == {
        "done": 12,
        "running": 4,
        "failed": 1,
        "waiting": 12,
        "left out": 1,
    }
    assert len(document["waiting"]) == len(status.decision.waiting)
    assert [each["missing"] for each in document["feeds"]["idleRules"]] == [["KEV"], ["EPSS", "CVSS"]]
    explained = json.loads(json.dumps(build_automatic_explanation_json(explain_automatic(status, "ams-1"))))
    assert (explained["rolloutState"], explained["tries"]) == ("failed", 1)


def test_the_artifact_is_as_it_was_read() -> None:
    status = make_status()
    progress = measure_shown_rollout(status.request.to_policy(), status.view, NOW)
    check("artifact.md", render_decision(status.request, status.view, status.decision, progress, NOW))


@pytest.mark.parametrize(
    ("state", "stages"),
    [
        (RolloutState.ROLLING_FORWARD, ["done", "running", "waiting", "waiting"]),
        (RolloutState.FAULTED, ["done", "stopped", "stopped", "stopped"]),
    ],
)
def test_phases_say_where_they_are(state: RolloutState, stages: list[str]) -> None:
    assert [each.stage.value for each in make_progress(make_rollout(state)).phases] == stages


def test_a_phase_soaks_until_the_next_may_begin() -> None:
    ended = NOW - timedelta(hours=4)
    phases = (Phase(1, ("fra",), BEGIN, ended), Phase(2, ("ams",)))
    rollout = Rollout("rollout-0008", BEGIN, frozenset(), phases)
    first, second = measure_rollout(REQUEST.to_policy(), make_view(rollout), rollout, NOW).phases
    assert (first.stage, first.soaks_until) == (PhaseStage.SOAKING, ended + timedelta(hours=24))
    assert second.stage is PhaseStage.WAITING


def test_records_alone_say_how_far_the_machines_of_runs_are() -> None:
    view, rollout = make_view(), make_rollout()
    plans = {each.machine: view.active_runs[0].plan for each in view.tries}
    plan = view.active_runs[0].plan
    assert plan is not None
    by_location = {name: replace(plan, location=name.partition("-")[0]) for name in (*plans, *plan.machines)}
    found = measure_recorded_rollout(rollout, view.tries, by_location, set(plan.machines), NOW)
    assert [[each.count(stage) for stage in MachineStage] for each in found.phases] == [
        [3, 0, 0, 0, 0],
        [12, 4, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
