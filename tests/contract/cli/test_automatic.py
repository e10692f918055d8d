"""automatic, compliance: what people see of automatic patching, and what they say to it, over real records."""

import json
from datetime import timedelta

import pytest

import fleetpatch.cli.command  # noqa: F401 - it adds these verbs
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.setup import open_records
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import HeldUpdate, Phase, Rollout, RolloutState
from tests.contract.cli.conftest import Said, Stage, security
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage


@pytest.fixture
def fleet(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Two assessed machines, and a folder with a policy."""
    monkeypatch.delenv("FLEETPATCH_CONFIGURATIONS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(stage.folder / "own"))
    monkeypatch.setattr("tasks.domain.protocols.clock.SystemClock.now", lambda _self: stage.fleet.clock.now())
    stage.defaults["owner"] = "managed"
    stage.add("web", security("openssl"), FakePackage("vim"))
    stage.add("db", security("openssl"))
    (stage.folder / "configurations.yaml").write_text("automatic: {due_days: 30}\n")
    assert stage.run("assess").code == 0
    return stage


def put_rollout(stage: Stage) -> None:
    now = stage.fleet.clock.now()
    rollout = Rollout(
        "rollout-0001", now, frozenset({("openssl", "2.0")}), (Phase(1, ("",), now),), RolloutState.ROLLING_FORWARD
    )
    with open_records(stage.url) as records:
        SqlRollouts(records.database).save(rollout)


def read_rollout(database: Database) -> Rollout:
    found = SqlRollouts(database).find("rollout-0001")
    assert found is not None
    return found


def fails(said: Said, code: int, message: str, hint: str = "") -> None:
    assert said.code == code
    assert message in said.err
    assert hint in said.err
    assert "Traceback" not in said.err


def test_the_status_shows_the_policy_and_who_waits(fleet: Stage) -> None:
    shown = fleet.run("automatic", "--json").json
    assert shown["machineCount"] == 2
    assert shown["policy"]["dueDays"] == 30
    assert shown["rollout"] is None
    said = fleet.run("automatic")
    assert said.code == 0
    assert "Automatic patching: on" in said.out
    assert "No rollout yet." in said.out


def test_the_calendar_does_not_keep_quiet_about_it(fleet: Stage) -> None:
    assert "automatic patching: 22:00 to 06:00 by each machine's clock" in fleet.run("calendar").out
    (fleet.folder / "configurations.yaml").write_text("automatic: {enabled: false}\n")
    assert "automatic patching" not in fleet.run("calendar").out


def test_a_rollout_shows_its_phases(fleet: Stage) -> None:
    put_rollout(fleet)
    rollout = fleet.run("automatic", "--json").json["rollout"]
    assert rollout["updates"] == [{"patchName": "openssl", "version": "2.0"}]
    (phase,) = rollout["phases"]
    assert sorted(each["machineName"] for each in phase["machines"]) == ["db", "web"]
    assert "rollout-0001" in fleet.run("automatic", "--all").out


def test_an_inventory_without_managed_machines_is_said(fleet: Stage) -> None:
    fleet.defaults.clear()
    assert "No machine of the scope has `owner: managed`" in fleet.run("automatic").err
    said = fleet.run("compliance")
    assert (said.code, "No machine of the scope is patched automatically" in said.out) == (3, True)
    refused = fleet.run("automatic", "explain", "web")
    fails(refused, 2, "web is not patched automatically", "fleetpatch inventory list")
    assert "web" in fleet.run("inventory", "list").out


def test_without_a_policy_the_remedy_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(stage.folder / "own"))
    monkeypatch.delenv("FLEETPATCH_CONFIGURATIONS", raising=False)
    stage.add("web")
    for verb in ("automatic", "compliance"):
        fails(stage.run(verb), 2, "there are no configurations")
        (stage.folder / "configurations.yaml").write_text("configurations: []\n")
        fails(stage.run(verb), 2, "there is no configuration here")
        window = "window: {start: 2026-12-06 22:00, length: 2h, zone: UTC, recurrence: Week}"
        (stage.folder / "configurations.yaml").write_text(f"name: web\nscope: '*'\n{window}\n")
        fails(stage.run(verb), 2, "has no policy of automatic patching", "automatic: {}")
        (stage.folder / "configurations.yaml").unlink()


def test_a_pause_holds_at_once_and_is_seen_by_all(fleet: Stage) -> None:
    said = fleet.run("automatic", "pause", "web", "--reason", "migration", "--until", "2099-01-02")
    assert said.code == 0
    assert "web is paused until 2099-01-0" in said.err
    shown = fleet.run("automatic", "--json").json
    assert [(each["scope"], each["reason"], each["until"][:4]) for each in shown["paused"]] == [
        ("web", "migration", "2099")
    ]
    (waiting,) = [each for each in shown["waiting"] if each["machineName"] == "web"]
    assert "migration" in waiting["reason"]
    assert "migration" in fleet.run("automatic", "explain", "web").out
    assert fleet.run("automatic", "resume", "web").code == 0
    assert fleet.run("automatic", "--json").json["paused"] == []


def test_a_pause_is_about_the_inventory_of_the_policy(fleet: Stage) -> None:
    (fleet.folder / "other.yaml").write_text("machines: [{name: dmz, address: 192.0.2.9, owner: managed}]\n")
    (fleet.folder / "configurations.yaml").write_text("automatic: {inventory: other.yaml}\n")
    assert "dmz is paused" in fleet.run("automatic", "pause", "dmz", "--reason", "x").err
    assert "1 paused" in fleet.run("automatic").out
    fails(fleet.run("automatic", "pause", "web", "--reason", "x"), 2, "web")
    (fleet.folder / "configurations.yaml").write_text("automatic: {inventory: [}\n")
    assert "web is paused" in fleet.run("automatic", "pause", "web", "--reason", "x").err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("pause", "web"), 2, "--reason"),
        (("pause", "web", "--reason", " "), 2, "--reason is empty"),
        (("pause", "nobody", "--reason", "x"), 2, "nobody"),
        (("pause", "env=", "--reason", "x"), 2, "env="),
        (("pause", "web", "--reason", "x", "--until", "soon"), 2, "--until 'soon' is no time"),
        (("pause", "web", "--reason", "x", "--until", "2001-01-01"), 2, "is over"),
        (("resume", "web"), 2, "the scope 'web' is not paused"),
        (("release", "nginx"), 2, "the update 'nginx' is not held"),
        (("cancel", "--yes"), 2, "there is no rollout yet"),
        (("cancel", "rollout-9", "--yes"), 2, "there is no rollout 'rollout-9'"),
        (("explain", "nobody"), 2, "nobody is not patched automatically"),
    ],
)
def test_what_makes_no_sense_is_refused(fleet: Stage, words: tuple[str, ...], code: int, message: str) -> None:
    fails(fleet.run("automatic", *words), code, message)
    said = fleet.run("automatic", *words, "--json")
    assert said.json["error"]["exitCode"] == code


def test_a_held_update_is_released_once(fleet: Stage) -> None:
    with open_records(fleet.url) as records:
        SqlHeldUpdates(records.database).add(
            HeldUpdate("openssl", "2.0", "it failed", fleet.fleet.clock.now(), "rollout-0001")
        )
    (shown,) = fleet.run("automatic", "--json").json["heldUpdates"]
    assert (shown["patchName"], shown["reason"]) == ("openssl", "it failed")
    assert "held: it failed" in " ".join(fleet.run("automatic", "explain", "web").out.split())
    fails(fleet.run("automatic", "release", "openssl=9"), 2, "is not held")
    assert fleet.run("automatic", "release", "openssl=2.0", "--json").json["released"][0]["version"] == "2.0"
    assert fleet.run("automatic", "--json").json["heldUpdates"] == []
    fails(fleet.run("automatic", "release", "openssl"), 2, "is not held")


def test_a_rollout_is_cancelled_once_and_asks_first(fleet: Stage) -> None:
    put_rollout(fleet)
    fails(fleet.run("automatic", "cancel"), 2, "needs a confirmation", "--yes")
    said = fleet.run("automatic", "cancel", "--yes", "--reason", "bad openssl", "--json")
    assert said.json["state"] == "Cancelled"
    with open_records(fleet.url) as records:
        rollout = read_rollout(records.database)
    assert rollout.state is RolloutState.CANCELLED
    assert rollout.message.endswith(": bad openssl")
    assert "bad openssl" in fleet.run("automatic").out
    fails(fleet.run("automatic", "cancel", "--yes"), 2, "is over: Cancelled")


def test_compliance_says_who_misses_a_deadline_with_its_exit_code(fleet: Stage) -> None:
    said = fleet.run("compliance", "--json")
    assert said.code == 0, said.out
    assert {each["machineName"]: each["state"] for each in said.json["machines"]} == {"web": "in time", "db": "in time"}
    assert fleet.run("automatic", "pause", "db", "--reason", "x").code == 0
    said = fleet.run("compliance", "--json")
    assert (said.code, said.json["counts"]["will breach"]) == (3, 1)
    assert [each["machineName"] for each in fleet.run("compliance", "web", "--json").json["machines"]] == ["web"]
    (fleet.folder / "configurations.yaml").write_text("automatic: {due_days: 0.01}\n")
    assert isinstance(fleet.fleet.clock, FakeClock)
    fleet.fleet.clock.advance(3600)
    said = fleet.run("compliance")
    assert said.code == 1
    assert "2 missed a deadline" in said.out


def test_a_machine_that_nobody_has_assessed_is_not_compliant_but_unknown(fleet: Stage) -> None:
    fleet.add("new", security("openssl"))
    said = fleet.run("compliance", "new", "--json")
    (machine,) = said.json["machines"]
    assert (said.code, machine["state"], machine["reason"]) == (3, "unknown", "it was never assessed")
    assert "it was never assessed" in fleet.run("compliance").out
    assert "1 never assessed" in fleet.run("automatic").out
    assert "its first assessment" in fleet.run("automatic", "explain", "new").out
    assert isinstance(fleet.fleet.clock, FakeClock)
    fleet.fleet.clock.advance(40 * 86_400)
    (fleet.folder / "configurations.yaml").write_text("automatic: {classifications: [Tools]}\n")
    said = fleet.run("compliance", "web", "--json")
    assert (said.code, said.json["machines"][0]["state"]) == (3, "unknown")


def test_a_stale_feed_is_told_and_its_rule_does_nothing(fleet: Stage) -> None:
    feeds = fleet.folder / "feeds"
    feeds.mkdir()
    now = fleet.fleet.clock.now()
    old = (now - timedelta(days=30)).isoformat()
    entry = {"cveID": "CVE-2024-3094", "dateAdded": "2024-04-01"}
    document = {"catalogVersion": "1", "dateReleased": old, "count": 1, "vulnerabilities": [entry]}
    (feeds / "known_exploited_vulnerabilities.json").write_text(json.dumps(document))
    policy = "automatic: {feeds: feeds, risk_rules: [{due_days: 3, known_exploited: true}]}\n"
    (fleet.folder / "configurations.yaml").write_text(policy)
    for verb in ("automatic", "compliance"):
        told = " ".join(fleet.run(verb).err.split())
        assert "30 days old, more than 14" in told
        assert "This rule shortens no deadline now, without KEV" in told
    document["dateReleased"] = now.isoformat()
    (feeds / "known_exploited_vulnerabilities.json").write_text(json.dumps(document))
    assert fleet.run("compliance").err == ""
