"""What people are told: short, true, and harmless whatever a machine says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.notify.messages import MAX_NAMES, build_message
from tasks.domain.model import Outcome, RunReport, Window
from tasks.domain.states import NotificationOccasion, OperationState, RebootState, YesNoUnknown
from tasks.rules.runs.approval import compute_report_digest
from tests.support import builders as make

START = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
NIGHT = Window(START, START + timedelta(hours=2), "Europe/Berlin")


def report(*outcomes: Outcome, **changes: Any) -> RunReport:
    run = make.make_run(
        scope="env=prod", window=NIGHT, request={"configuration": "web-nights"}, message=changes.pop("message", "")
    )
    return RunReport(run, outcomes, **changes)


def failed(name: str, reason: str = "apt: broken packages") -> Outcome:
    return make.make_failed_outcome(machine=name, reason=reason)


def test_a_plan_is_told_in_numbers() -> None:
    plans = (
        make.make_plan(machine="a", reboot_expected=YesNoUnknown.YES),
        make.make_plan(machine="b", chosen=(), reboot_expected=YesNoUnknown.NO),
    )
    told = build_message(NotificationOccasion.PLANNED, report(plans=plans, waves=(make.make_wave(),)))
    assert told.title == "fleetpatch: web-nights: planned"
    assert not told.is_failure
    assert told.body.splitlines()[:3] == [
        f"Run {make.RUN_ID} for env=prod",
        "Window: 2026-11-21 01:00 to 03:00 CET (2 h)",
        f"2 machines in 1 wave: {len(plans[0].chosen)} updates to install, 1 reboot expected, 3 CVEs",
    ]
    assert told.body.splitlines()[-1] == f"More: fleetpatch show {make.RUN_ID}"


def test_machines_that_were_not_assessed_are_named_in_the_plan() -> None:
    told = build_message(
        NotificationOccasion.PLANNED, report(assessments=(make.make_failed_assessment(machine="gone"),))
    )
    assert "Not assessed: gone" in told.body


def test_who_is_waited_for_is_told_how_to_answer_and_until_when() -> None:
    waits = f"waits for approval until 2026-11-21 02:00 CET: fleetpatch approve {make.RUN_ID}"
    waiting = report(plans=(make.make_plan(),), notes=("approval of something else",))
    told = build_message(NotificationOccasion.WAITING, replace(waiting, run=replace(waiting.run, message=waits)))
    assert told.title == "fleetpatch: web-nights: waits for your approval"
    assert f"It {waits}" in told.body
    mark = compute_report_digest(waiting)[:12]
    assert f"Approve: fleetpatch approve {make.RUN_ID} --plan {mark}, or the form" in told.body
    assert f"Refuse: fleetpatch reject {make.RUN_ID}" in told.body


def test_an_end_is_told_with_counts() -> None:
    done = make.make_outcome(machine="a", state=OperationState.SUCCEEDED, reboot=RebootState.COMPLETED)
    told = build_message(NotificationOccasion.FAILED, report(done, failed("db-1")))
    assert told.is_failure
    assert "2 machines: 1 Failed, 1 Succeeded" in told.body
    assert "Failed: db-1: apt: broken packages" in told.body
    assert "1 machine rebooted" in told.body


def test_ten_names_are_enough() -> None:
    told = build_message(NotificationOccasion.FAILED, report(*(failed(f"db-{number}") for number in range(13))))
    assert told.body.count("Failed: db-") == MAX_NAMES
    assert "Failed: 3 more" in told.body


@pytest.mark.parametrize("occasion", [NotificationOccasion.MISSED, NotificationOccasion.CANCELLED])
def test_a_window_without_a_run_is_told_with_its_reason(occasion: NotificationOccasion) -> None:
    told = build_message(occasion, report(message="window missed: it was 01:00 to 03:00"))
    assert "window missed: it was 01:00 to 03:00" in told.body
    assert "machine" not in told.body


def test_a_cancelled_run_says_what_was_not_begun_and_why() -> None:
    idle = [
        make.make_outcome(machine=f"m{n}", state=OperationState.NOT_STARTED, reason="the run was asked to stop: no")
        for n in range(12)
    ]
    told = build_message(NotificationOccasion.CANCELLED, report(*idle))
    assert "Not begun: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9 and 2 more" in told.body
    assert "the run was asked to stop: no" in told.body


def test_no_words_of_a_machine_wake_people_or_make_links() -> None:
    evil = "\x1b[2J<!channel> @everyone [here](https://evil.example) `x` \u202e&amp;\nFailed: all\r\n"
    told = build_message(NotificationOccasion.FAILED, report(failed("db-1", evil)))
    (line,) = [line for line in told.body.splitlines() if line.startswith("Failed: db-1")]
    assert "evil.example" in line
    for mark in ("\x1b", "<", ">", "[", "]", "@", "`", "://", "\u202e", "&"):
        assert mark not in line
    assert not any(line.startswith("Failed: all") for line in told.body.splitlines())


@given(st.text(), st.text(max_size=50), st.sampled_from(NotificationOccasion))
def test_whatever_a_machine_says_the_message_stays_short_and_plain(
    reason: str, name: str, occasion: NotificationOccasion
) -> None:
    outcomes = [failed(name, reason), make.make_outcome(machine=name, state=OperationState.NOT_STARTED, reason=reason)]
    told = build_message(occasion, report(*outcomes, message=reason, notes=(f"approv {reason}",)))
    assert len(told.body) < 4000
    assert all(character == "\n" or character.isprintable() or ord(character) > 0x7F for character in told.body)
    for mark in ("<", ">", "[", "]", "@", "`", "://"):
        assert mark not in told.body
    (told.title + told.body).encode()
