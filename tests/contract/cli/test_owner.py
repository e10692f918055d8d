"""inventory owner: the whole command, with real files, records and policies."""

import os
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.cli.main import main
from tests.contract.cli.conftest import Said, Stage

FLEET = """\
machines:
  - name: web-1   # the first
    address: 192.0.2.1
    environment: prod
  - {name: web-2, address: 192.0.2.2, environment: test}
  - {name: db-1, address: 192.0.2.3, environment: prod, owner: manual}
"""


class Desk:
    """A person at the command, with an inventory of their own."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.path = stage.inventory
        self.path.write_text(FLEET)

    def run(self, *words: str) -> Said:
        self._stage.capture.readouterr()
        return Said(main([*words]), *self._stage.capture.readouterr())

    def owner(self, *words: str) -> Said:
        return self.run("inventory", "owner", *words)


@pytest.fixture
def desk(stage: Stage) -> Desk:
    return Desk(stage)


def test_it_is_written_read_back_and_in_the_audit_log(desk: Desk) -> None:
    said = desk.owner("*", "os", "--yes", "--json")
    assert said.code == 0
    assert [(row["machineName"], row["result"], row["ownerBefore"]) for row in said.json["machines"]] == [
        ("web-1", "changed", "fleetpatch"),
        ("web-2", "changed", "fleetpatch"),
        ("db-1", "changed", "manual"),
    ]
    assert desk.path.read_text() == (
        FLEET.replace("# the first\n", "# the first\n    owner: os\n")
        .replace("web-2,", "web-2, owner: os,")
        .replace("owner: manual", "owner: os")
    )
    entries: Any = desk.run("audit", "list", "--json").json
    (done,) = [entry for entry in entries if entry["act"] == "set owner" and entry["result"] == "done"]
    assert done["subject"] == str(desk.path)
    assert '"db-1": "manual"' in done["detail"]
    again = desk.owner("*", "os", "--yes", "--json")
    assert {row["result"] for row in again.json["machines"]} == {"unchanged"}


def test_a_dry_run_shows_the_diff_and_writes_nothing(desk: Desk) -> None:
    said = desk.owner("web-1", "managed", "--dry-run")
    assert (said.code, desk.path.read_text()) == (0, FLEET)
    assert "+    owner: managed" in said.out
    entries: Any = desk.run("audit", "list", "--json").json
    assert entries == []


def test_without_a_terminal_and_without_yes_nothing_is_written(desk: Desk) -> None:
    assert (desk.owner("web-1", "os").code, desk.path.read_text()) == (2, FLEET)


@pytest.mark.parametrize(
    "rule",
    [
        "scope: env=prod, forbid: [owner]",
        "scope: env=prod, approval: {by: [anna]}",
        "scope: 'owner=os', forbid: [owner]",  # holds for what they would be
        "scope: 'owner=manual', forbid: [owner]",  # holds for what they are
    ],
)
def test_a_policy_refuses_it(desk: Desk, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: a user of the command. Way: an owner that no rule is about. Must hold: nothing is written."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"policy: {{rules: [{{name: strict, ask: the team, {rule}}}]}}")
    monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))
    said = desk.owner("*", "os", "--yes")
    assert (said.code, desk.path.read_text()) == (2, FLEET)
    assert "policy rule strict" in said.err


def test_a_freeze_does_not_hold_it_as_no_machine_changes(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    freeze = "freezes: [{start: 2020-01-01, end: 2099-12-31}]"
    policy.write_text(f"policy: {{rules: [{{name: strict, scope: '*', ask: the team, {freeze}}}]}}")
    monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))
    assert desk.owner("web-1", "os", "--yes").code == 0


def test_a_file_that_can_not_be_written_is_told_with_the_diff(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(_self: Path, _target: Path) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(Path, "rename", rename)
    said = desk.owner("web-1", "os", "--yes")
    assert (said.code, desk.path.read_text()) == (1, FLEET)
    assert "Read-only file system" in said.out
    assert "+    owner: os" in said.out
    entries: Any = desk.run("audit", "list", "--json").json
    assert [entry["result"] for entry in entries if entry["act"] == "set owner"][:1] == ["failed"]


def test_what_another_layer_says_meanwhile_is_a_failure(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace_and_lose(path: Path, before: str | None, after: str) -> None:
        path.write_text(before or after)  # somebody else writes the old text at once

    monkeypatch.setattr("flows.owner_change.replace_file", replace_and_lose)
    (row,) = desk.owner("web-1", "os", "--yes", "--json").json["machines"]
    assert (row["result"], row["message"]) == ("failed", "the inventory says otherwise")


def test_a_checkout_of_git_is_told(desk: Desk) -> None:
    (desk.path.parent / ".git").mkdir()
    assert "commit the change" in desk.owner("web-1", "os", "--yes").out
