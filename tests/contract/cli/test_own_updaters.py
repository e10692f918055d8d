"""updaters: the whole command, with real records, on machines that tell and switch their own updaters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inventory.machine import PatchOwner
from tasks.domain.model import PackageState
from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.contract.cli.conftest import Stage
from tests.support.sim_machine import SimMachine

TIMER = "fake.timer"


class Updating:
    """A machine with an updater of its own."""

    def __init__(self, stage: Stage, name: str = "web", *, is_on: bool = True, **described: Any) -> None:
        self.machine: SimMachine = stage.add(name, **described)
        self.is_on = is_on
        self.obeys = True
        self.orders: list[Script] = []
        state = self.machine.world.state
        self.machine.answer("fake_assess", lambda _: {"kind": "answer", "answer": self._tell(state())})
        self.machine.answer("switch_updaters", self._switch)

    def _tell(self, state: PackageState) -> PackageState:
        return replace(state, auto_updaters=((TIMER, 3600.0),) if self.is_on else ())

    def _switch(self, script: Script) -> list[ScriptRecord]:
        if script.params["work"] == "look":
            return [{"kind": "unit", "name": TIMER, "load": "loaded", "enabled": "enabled", "active": "active"}]
        self.orders.append(script)
        if self.obeys:
            self.is_on = bool(script.params["enable"])
        return [{"kind": "switched", "step": "x"}]


def switch(stage: Stage, verb: str, *words: str) -> dict[str, Any]:
    said = stage.run("updaters", verb, "*", "--yes", "--json", *words)
    (machine,) = said.json["machines"]
    return {"code": said.code, **machine}


def status(stage: Stage) -> dict[str, Any]:
    (machine,) = stage.run("updaters", "status", "--json").json["machines"]
    return dict(machine)


def test_it_is_switched_off_under_the_lock_and_the_machine_says_so(stage: Stage) -> None:
    web = Updating(stage)
    done = switch(stage, "off")
    assert (done["code"], done["result"], done["updaterStatus"]) == (0, "changed", "Off")
    (order,) = web.orders
    assert order.params["disable"] == (TIMER,)
    assert order.params["lock_run"]
    assert web.machine.locked_by is None
    assert switch(stage, "off")["result"] == "unchanged"
    assert stage.run("updaters", "status").code == 0
    assert (status(stage)["updaterStatus"], status(stage)["updaterDrift"]) == ("Off", "")


def test_updaters_that_a_run_has_paused_are_not_off(stage: Stage) -> None:
    web = Updating(stage, is_on=False)
    web.machine.locked_by = ("20260310-010000-aaaaaa", "anna", 4e9)
    done = switch(stage, "off")
    assert (done["code"], done["result"]) == (1, "failed")
    assert "has locked the machine" in done["message"]


def test_the_orders_are_listed_with_the_newest_on_top(stage: Stage) -> None:
    assert "No order is recorded." in stage.run("orders").out
    Updating(stage)
    switch(stage, "off")
    switch(stage, "off")
    orders = stage.run("orders", "--machine", "web", "--json").json["orders"]
    assert [(order["act"], order["result"]) for order in orders] == [
        ("updaters off", "unchanged"),
        ("updaters off", "changed"),
    ]
    assert "unchanged" in stage.run("orders", "-n", "1").out
    assert stage.run("orders", "--machine", "other", "--json").json["orders"] == []


def test_an_updater_that_comes_back_is_drift(stage: Stage) -> None:
    web = Updating(stage)
    switch(stage, "off")
    web.is_on = True
    assert stage.run("assess").code == 0
    assert "installs updates by itself again" in status(stage)["updaterDrift"]
    said = stage.run("updaters", "status")
    assert "not as the owner says" in said.out
    assert said.code == 3
    (row,) = stage.run("machines", "--json").json["machines"]
    assert (row["ownUpdaters"], bool(row["updaterDrift"])) == ([TIMER], True)


def test_a_machine_that_says_it_is_still_on_is_a_failure(stage: Stage) -> None:
    web = Updating(stage)
    web.obeys = False
    done = switch(stage, "off")
    assert (done["code"], done["result"], done["updaterStatus"]) == (1, "failed", "On")
    assert "still on" in done["message"]
    assert web.machine.locked_by is None


@pytest.mark.parametrize(("verb", "owner"), [("on", "managed"), ("off", "os"), ("off", "manual")])
def test_two_patchers_or_none_are_refused_without_a_connection(stage: Stage, verb: str, owner: str) -> None:
    web = Updating(stage, owner=PatchOwner(owner))
    done = switch(stage, verb)
    assert (done["code"], done["result"]) == (4, "refused")
    assert web.machine.calls == []


def test_a_policy_refuses_it_and_a_dry_run_changes_nothing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("policy: {rules: [{name: all, scope: '*', ask: the team, forbid: [own_updaters]}]}")
    monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))
    web = Updating(stage)
    said = stage.run("updaters", "off", "*", "--yes")
    assert (said.code, web.orders) == (2, [])
    assert "policy rule all" in said.err
    planned = switch(stage, "off", "--dry-run")
    assert (planned["result"], planned["steps"], web.orders) == ("planned", [f"systemctl disable --now {TIMER}"], [])
