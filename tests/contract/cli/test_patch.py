"""plan and patch over a simulated fleet: what they do, what they say and how they end."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.contract.cli.conftest import Stage, security
from tests.support.fake_packages import FakePackage

QUICK = ("--no-prefect", "--yes")


def test_a_patch_that_goes_well_ends_with_0(stage: Stage) -> None:
    web = stage.add("web", security("openssl"), FakePackage("vim"))
    said = stage.run("patch", "*", *QUICK)
    assert said.code == 0
    assert web.world["openssl"].installed == "2.0"
    assert web.world["vim"].installed == "1.0"
    assert "Succeeded" in said.out
    assert "web: install Succeeded" in said.err


def test_a_failed_machine_ends_with_1_and_a_whole_report(stage: Stage, tmp_path: Path) -> None:
    stage.add("bad", security("openssl", fails="disk on fire"))
    stage.add("good", security("openssl"))
    # without the budget, the good machine does not begin if the other one has failed by then
    both = ("--wave-percent", "100", "--failure-budget", "1")
    said = stage.run("patch", "*", *QUICK, *both, "--report", str(tmp_path / "reports"), "--json")
    assert said.code == 1
    states = {row["machineName"]: row["status"] for row in said.json["machines"]}
    assert states == {"bad": "Failed", "good": "Succeeded"}
    assert Path(said.json["reportFiles"]["html"]).exists()


def test_warnings_end_with_3(stage: Stage) -> None:
    stage.add("web", security("openssl", asks_reboot=True))
    said = stage.run("patch", "*", *QUICK, "--reboot", "Never")
    assert said.code == 3
    assert "a reboot is still required" in said.out
    again = stage.run("patch", "*", *QUICK, "--reboot", "Never", "--reboot-pending-first")
    assert again.code == 0  # it was pending before this run, whose owner wants no reboot
    assert again.out.count("· web: a reboot is still required") == again.out.count("reboot is still required") == 1


def test_a_window_that_holds_nothing_ends_with_4(stage: Stage) -> None:
    web = stage.add("web", security("openssl"))
    said = stage.run("patch", "*", *QUICK, "--minutes", "1", "--reserve", "15")
    assert said.code == 4
    assert web.installs() == []
    assert "no time is left" in said.out or "is left until" in said.out or "are left until" in said.out


def test_plan_changes_nothing_and_says_what_and_why_not(stage: Stage) -> None:
    web = stage.add("web", security("openssl"), FakePackage("vim"))
    said = stage.run("plan", "*")
    assert said.code == 0
    assert web.installs() == []
    assert "1.0 → 2.0" in said.out
    assert "classification Other is not selected" in said.out


def test_a_plan_and_its_run_tell_a_mask_that_no_update_matches(stage: Stage) -> None:
    stage.add("web", security("openssl"), FakePackage("vim"))
    misspelt = ("*", "--include", "opensll", "--only-included")
    note = "no pending update matches the include mask 'opensll'. Did you mean 'openssl'?"
    assert f"Note: {note}" in " ".join(stage.run("plan", *misspelt).out.split())
    stage.run("patch", *misspelt, "--no-prefect", "--yes")
    assert note in " ".join(stage.run("show", "last").out.split())


def test_a_plan_says_that_the_window_is_too_short(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    assert "Longer than the window of 1 min: web. Updates that do not fit" in " ".join(
        stage.run("plan", "*", "--minutes", "1").out.split()
    )
    assert "Longer than the window" not in stage.run("plan", "*", "--minutes", "120").out


def test_a_dry_run_needs_no_confirmation(stage: Stage) -> None:
    web = stage.add("web", security("openssl"))
    assert stage.run("patch", "*", "--no-prefect", "--dry-run").code == 0
    assert web.installs() == []


def test_without_a_terminal_and_without_yes_nothing_is_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    web = stage.add("web", security("openssl"))
    said = stage.run("patch", "*", "--no-prefect")
    assert said.code == 2
    assert "--yes" in said.err
    assert web.calls == []


@pytest.mark.parametrize(("answer", "installed"), [("y\n", "2.0"), ("n\n", "1.0"), ("\n", "1.0"), ("", "1.0")])
def test_at_a_terminal_only_a_yes_is_a_yes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: str, installed: str
) -> None:
    typed = io.StringIO(answer)
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", typed)
    web = stage.add("web", security("openssl"))
    said = stage.run("patch", "*", "--no-prefect", "--minutes", "90", "--exclude", "linux-*")
    assert said.code == 0
    assert web.world["openssl"].installed == installed
    assert "1: web" in said.err
    assert "without linux-*" in said.err


def test_json_is_one_document_and_nothing_else(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    said = stage.run("patch", "*", *QUICK, "--json")
    assert said.json["run"]["kind"] == "patch"
    assert said.json["exitCode"] == 0
    assert said.out.isascii()


def test_options_win_over_the_request_file(stage: Stage, tmp_path: Path) -> None:
    stage.add("web", security("openssl"), security("curl"), FakePackage("vim"))
    file = tmp_path / "request.yaml"
    file.write_text("scope: nobody\nupdates: {classifications: [Other], exclude: [curl]}\nwindow: {minutes: 30}\n")
    said = stage.run("plan", "web", "--request", str(file), "-c", "security", "--json")
    request = said.json["run"]["request"]
    assert request["scope"] == "web"
    assert request["updates"]["classifications"] == ["Security"]
    assert request["updates"]["exclude"] == ["curl"]
    assert request["window"]["minutes"] == 30


def test_a_request_file_may_say_it_all(stage: Stage, tmp_path: Path) -> None:
    stage.add("web", security("openssl"))
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"scope": "web", "waves": {"size": 1}}))
    assert stage.run("plan", "--request", str(file)).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plan",), "scope"),
        (("plan", "web", "--minutes", "0"), "--minutes"),
        (("plan", "web", "--zone", "Europe/Nowhere"), "Europe/Nowhere"),
        (("plan", "web", "--start", "soon"), "--start"),
        (("plan", "web", "--canary", "some"), "--canary"),
        (("plan", "web", "--failure-budget", "200%"), "--failure-budget"),
        (("plan", "nobody"), "nobody"),
        (("plan", "web", "--request", "none.yaml"), "none.yaml"),
        (("plan", "web", "-c", "Urgent"), "Urgent"),
        (("plan", "web", "--nonsense"), "--nonsense"),
        (("dance",), "dance"),
    ],
)
def test_bad_input_ends_with_2_and_says_which(stage: Stage, words: tuple[str, ...], told: str) -> None:
    web = stage.add("web", security("openssl"))
    said = stage.run(*words)
    assert said.code == 2
    assert "error: " in said.err
    assert "hint: " in said.err
    assert told in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert web.calls == []


def test_a_faulty_request_file_is_named_with_its_key(stage: Stage, tmp_path: Path) -> None:
    stage.add("web", security("openssl"))
    file = tmp_path / "request.yaml"
    file.write_text("scope: web\nwindow: {minuts: 30}\n")
    said = stage.run("plan", "--request", str(file), "--json")
    assert said.code == 2
    assert "window.minuts" in said.json["error"]["message"]
    assert str(file) in said.json["error"]["message"]
    assert said.json["error"]["exitCode"] == 2


def test_usage_errors_have_a_json_form(stage: Stage) -> None:
    said = stage.run("plan", "web", "--nonsense", "--json")
    assert said.json["error"]["kind"] == "Usage"


def test_records_that_cannot_be_used_end_with_5(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    said = stage.run("patch", "*", *QUICK, "--records", "sqlite:////proc/nowhere/records.db")
    assert said.code == 5
    assert "records" in said.err


def test_debug_shows_where_it_went_wrong(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    assert "Traceback" in stage.run("plan", "nobody", "--debug").err


def test_canaries_and_budgets_by_share(stage: Stage) -> None:
    for name in ("a", "b", "c", "d"):
        stage.add(name, security("openssl"))
    said = stage.run("plan", "*", "--canary", "25%", "--failure-budget", "1", "--json")
    assert said.json["run"]["request"]["waves"]["canary_percent"] == 25
    assert said.json["run"]["request"]["waves"]["failure_budget_count"] == 1
    assert said.json["waves"][0]["canary"]


def test_twins_are_planned_once_on_screen(stage: Stage) -> None:
    for name in ("a", "b"):
        stage.add(name, security("openssl"))
    assert "a, b: 1 update chosen" in stage.run("plan", "*").out


@pytest.mark.parametrize(
    ("words", "told", "remedy"),
    [
        (("plan",), "name the machines: a scope such as web-1", "--help"),
        (("plan", "web", "--start", "tomorrow"), "it is no time; write one such as 2026-", "--help"),
        (("plan", "web", "-c", "Secuirty"), "'-c': 'Secuirty' is not one of", "--help"),
        (("doctor", "web", "db"), "(db)", "'web-1|web-2' for several machines"),
    ],
)
def test_errors_have_no_words_from_inside(stage: Stage, words: tuple[str, ...], told: str, remedy: str) -> None:
    stage.add("web", security("openssl"))
    said = stage.run(*words)
    assert said.code == 2
    assert told in said.err
    assert remedy in said.err
    assert not any(words in said.err for words in ("field required", "Value error", "input should"))


def test_a_window_that_is_far_off_is_told_before_the_wait(stage: Stage) -> None:
    stage.add("web", security("openssl"))
    start = f"{datetime.now(UTC) + timedelta(days=24, minutes=5):%Y-%m-%d %H:%M}"
    said = stage.run("patch", "*", "--start", start)  # without a terminal it can't ask, and does not begin
    assert "The window opens in 24 d. Until then this command waits" in said.err
