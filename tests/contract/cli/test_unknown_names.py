"""Names that nobody knows: each is an error with the nearest name and exit code 2, never an empty answer."""

import pytest

import fleetpatch.cli.command  # noqa: F401 - adds its verbs
from tests.contract.cli.conftest import Said, Stage, security


@pytest.fixture
def fleet(stage: Stage) -> Stage:
    """Two machines, of which one was assessed."""
    stage.add("web-1", security("openssl"))
    stage.add("db-1", security("openssl"))
    assert stage.run("assess", "web-1").code == 0
    return stage


def _require_refused(said: Said, message: str, near: str) -> None:
    err = " ".join(said.err.split())
    assert (said.code, said.out) == (2, "")
    assert message in err
    assert f"Did you mean {near!r}?" in err


@pytest.mark.parametrize(
    ("words", "message", "near"),
    [
        (("why", "web-1", "opensll"), "no update 'opensll' is known on web-1: none is pending since", "openssl"),
        (("why", "wbe-1"), "the records have no machine 'wbe-1'", "web-1"),
        (("why", "wbe-1", "openssl"), "the records have no machine 'wbe-1'", "web-1"),
        (("show", "last", "--machine", "web1"), "has no machine 'web1'", "web-1"),
        (("unlock", "wbe-1"), "the inventory has no machine 'wbe-1'", "web-1"),
        (("sets", "release", "web1", "--yes"), "neither the records nor the inventory have a machine 'web1'", "web-1"),
        (("plan", "*", "--only", "web1", "--only", "db-1"), "--only: no machine 'web1' is in the scope '*'", "web-1"),
        (("plan", "wbe-1"), "no machine is in the scope 'wbe-1'", "web-1"),
        (("broker", "wbe-1"), "no machine is in the scope 'wbe-1'", "web-1"),
        (("audit", "list", "--act", "add tokn"), "--act: the audit log has no 'add tokn'", "add token"),
        (("web", "token", "remove", "promtheus"), "there is no access token 'promtheus'", "prometheus"),
        (("shwo",), "No such command 'shwo'", "show"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_one(
    fleet: Stage, words: tuple[str, ...], message: str, near: str
) -> None:
    fleet.run("web", "token", "add", "prometheus")
    _require_refused(fleet.run(*words), message, near)


def test_a_mistyped_run_names_the_nearest(fleet: Stage) -> None:
    run = str(fleet.run("runs", "--json").json["runs"][0]["maintenanceRunId"])
    typed = f"{run[:-1]}x"
    for verb in ("show", "report", "cancel", "resume", "approve", "reject", "approvals"):
        _require_refused(fleet.run(verb, typed), f"there is no run {typed!r}", run)


def test_a_mistyped_name_logs_nobody_out(fleet: Stage) -> None:
    fleet.run("web", "login", "anna")
    _require_refused(fleet.run("web", "logout", "ana"), "nobody is named 'ana'", "anna")
    assert fleet.run("web", "logout", "anna").code == 0


def test_a_mask_may_match_nothing(fleet: Stage) -> None:
    said = fleet.run("why", "web-1", "linux-*")
    assert said.code == 0
    assert "No pending update matches 'linux-*' on web-1" in said.out


def test_the_error_is_a_document_as_well(fleet: Stage) -> None:
    error = fleet.run("why", "web-1", "opensll", "--json").json["error"]
    assert (error["kind"], error["exitCode"]) == ("RequestError", 2)
    assert "openssl" in error["hint"]
