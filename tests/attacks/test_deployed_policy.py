"""Attacks by way of a process that does not have the policy which the pages and `config check` show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.sync.plan import is_policy_recorded, record_policy
from fleetpatch.cli.main import main
from fleetpatch.web.context import PolicyDifference
from flows.installation_checks import check_installation
from flows.policy.policy_file import load_policy
from tasks.domain.states import FindingLevel
from tasks.records.audit.cutting import cut_log
from tasks.records.audit.deployed_policies import DEPLOY_POLICY_ACT, read_deployed_policies, record_deployed_policy
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.rules.policy.model import Policy, PolicyFile
from tests.contract.policy_doors import RULES, Stage, begin_flow, build_stage, call_local_engine, enter_by_resume

POLICY = "policy: {rules: [{name: production, scope: env=prod, ask: the platform team, forbid: [repair]}]}\n"
LAX = POLICY.replace("repair", "no_stage")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = build_stage(tmp_path, monkeypatch)
    monkeypatch.delenv("FLEETPATCH_POLICY")
    return made


def read_policy(stage: Stage) -> Policy:
    return load_policy(stage.fleet.clock.now().date(), stage.folder / "site")


def deploy(stage: Stage, text: str = POLICY, fleet: str = "default") -> bool:
    """Deploy configurations from a folder of which the worker does not know."""
    (stage.folder / "site").mkdir(exist_ok=True)
    (stage.folder / "site/policy.yaml").write_text(text)
    return record_policy(fleet, read_policy(stage))


def patch(stage: Stage) -> str:
    return call_local_engine(stage, stage.build_request({}))


def test_a_worker_without_the_deployed_policy_begins_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: who may start runs in Prefect, where the worker was set up without the folder of configurations.

    Way: a run that a rule forbids. Must hold: nothing begins, the refusal names the policy and the remedy; with the
    variable, the rule refuses.
    """
    assert deploy(stage)
    request = stage.build_request({"repair": True})
    for said in (call_local_engine(stage, request), begin_flow(stage, request, monkeypatch)):
        assert f"the policy {stage.folder / 'site/policy.yaml'}, which `fleetpatch deploy` recorded" in said
        assert "it reads none. Set FLEETPATCH_CONFIGURATIONS" in said
    assert stage.begun == []
    (run,) = stage.read_runs()  # that of the flow: Cancelled, with the reason
    assert "FLEETPATCH_CONFIGURATIONS" in run.message

    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(stage.folder / "site"))
    assert "`forbid`" in call_local_engine(stage, request)
    assert stage.begun == []
    patch(stage)
    assert stage.begun == ["prod-1", "prod-2", "stage-1"]


def test_a_worker_with_an_old_copy_begins_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: who may start runs, with a worker on a machine that has an earlier policy, or one that was loosened.

    Must hold: nothing begins until the edited policy is deployed, or the deployed one is there.
    """
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(stage.folder / "site"))
    deploy(stage)
    (stage.folder / "site/policy.yaml").write_text(LAX)
    assert "was edited, or this machine has another copy" in patch(stage)
    assert stage.begun == []
    assert not is_policy_recorded("default", read_policy(stage))
    assert deploy(stage, LAX)
    assert not deploy(stage, LAX)  # no second entry
    patch(stage)
    assert stage.begun


def test_a_policy_of_ones_own_does_not_stand_for_the_deployed_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Attacker: who uses the command on another machine with the same records, and with configurations of their own.

    Must hold: the command patches nothing until the deployed policy is there, too. More rules do no harm.
    """
    deploy(stage)
    own = tmp_path / "own.yaml"
    own.write_text(LAX)
    monkeypatch.setenv("FLEETPATCH_POLICY", str(own))
    assert main(["patch", "*", "--yes", "--no-prefect"]) == 2
    assert stage.begun == []
    copied = tmp_path / "config/fleetpatch/configurations"
    copied.mkdir(parents=True)
    (copied / "policy.yaml").write_text(POLICY)
    patch(stage)
    assert stage.begun


def test_a_run_that_is_resumed_without_the_policy_begins_nothing_more(stage: Stage) -> None:
    """Attacker: who has a worker killed, so that another one without the policy goes on.

    Must hold: it reads what was begun, and begins nothing.
    """
    deploy(stage)
    assert "Set FLEETPATCH_CONFIGURATIONS" in enter_by_resume(stage, RULES["forbid"])
    assert stage.begun == []


def test_a_cut_of_the_audit_log_takes_no_policy_away(stage: Stage) -> None:
    """Attacker: whoever waits until old entries are cut. Must hold: what was deployed holds, and the log is intact."""
    deploy(stage)
    with open_records(stage.url) as records:
        log, who = SqlAuditLog(records.database), ("root", "os", "", "")
        record_deployed_policy(log, "other", [PolicyFile("/other.yaml", "ab" * 32)], who, stage.fleet.clock.now())
        before = read_deployed_policies(log)
        last = log.read(1)[0].number
        cut_log(records.database, last, stage.fleet.clock.now(), who, "old")
        after = read_deployed_policies(log)
        assert [(each.fleet, each.files) for each in after] == [(each.fleet, each.files) for each in before]
        assert len(log.read(10, act=DEPLOY_POLICY_ACT)) == 2
    assert "which `fleetpatch deploy` recorded" in patch(stage)


def test_what_is_deployed_for_another_fleet_lifts_no_requirement(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Attacker: who deploys a fleet without a policy, or with another, beside one that has one. Nothing may begin."""
    deploy(stage)
    record_policy("empty", Policy())
    assert "recorded" in patch(stage)
    own = tmp_path / "own.yaml"
    own.write_text(LAX)
    record_policy("other", load_policy(stage.fleet.clock.now().date(), own))
    with monkeypatch.context() as patched:
        patched.setenv("FLEETPATCH_POLICY", str(own))
        assert "recorded" in patch(stage)
    assert not stage.begun
    monkeypatch.setenv("FLEETPATCH_CONFIGURATIONS", str(stage.folder / "site"))
    patch(stage)
    assert stage.begun


def test_the_pages_say_that_runs_are_held_by_another_policy(stage: Stage) -> None:
    """No attack: the pages of the delivered units have the folder of configurations, the worker does not."""
    now, site = stage.fleet.clock.now(), stage.folder / "site"
    site.mkdir()
    with open_records(stage.url) as records:

        def look(configurations: Path | None = site) -> str:
            return PolicyDifference(configurations, records.database).read(now)

        assert look() == ""
        (site / "policy.yaml").write_text(POLICY)
        assert look() == f"The policy {site / 'policy.yaml'} is not deployed: runs may be held by another one. " + (
            "fleetpatch deploy"
        )
        deploy(stage)
        assert look() == ""
        assert "don't have the policy that holds for runs" in look(None)


def test_a_damaged_entry_lets_nothing_begin(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: a writer of the records, by SQL. Way: a detail that says nothing. Must hold: nothing begins."""
    deploy(stage)
    with open_records(stage.url) as records:
        log = SqlAuditLog(records.database)
        monkeypatch.setattr(SqlAuditLog, "read", _damage(log.read(1, act=DEPLOY_POLICY_ACT)))
    assert "does not say which policy was deployed" in patch(stage)
    assert stage.begun == []


def _damage(entries: Any) -> Any:
    return lambda *_args, **_words: [replace(entry, detail="{}?") for entry in entries]


def test_who_has_no_policy_notices_nothing(stage: Stage) -> None:
    """No attack: without a policy nothing is recorded, and a policy that is removed and deployed is gone."""
    assert not record_policy("default", Policy())
    assert is_policy_recorded("default", Policy())
    assert "policy" not in {finding.check for finding in check_installation(stage.url)}
    deploy(stage)
    (found,) = [finding for finding in check_installation(stage.url) if finding.check == "policy"]
    assert (found.level, "no run begins here" in found.message) == (FindingLevel.BLOCK, True)
    assert record_policy("default", Policy())
    patch(stage)
    assert stage.begun
