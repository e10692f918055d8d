"""What goes wrong around ticks: runs that never begin, rollouts that follow each other, other controllers."""

from dataclasses import replace

import pytest

from flows.notify.messages import Message
from flows.request.patch_request import PatchRequest
from inventory.errors import InventoryError
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.automatic.sightings import read_first_seen, read_missing_fixes
from tasks.rules.automatic.model import RolloutState
from tests.contract.test_automatic_tick import BASH, CURL, TARGET, finish_run, fleet, sent
from tests.support.automatic_fleet import INVENTORY, AutomaticFleet
from tests.support.builders import make_update

__all__ = ["fleet", "sent"]  # fixtures


def test_a_machine_has_one_turn_in_a_night_also_when_its_rollout_ends_and_another_begins(fleet: AutomaticFleet) -> None:
    fleet.assess(CURL)
    fleet.begin()
    ((key, (_, started)),) = fleet.starter.started.items()
    finish_run(fleet, started, key)
    rollouts = SqlRollouts(fleet.records.database)
    (rolling,) = rollouts.read_newest()
    rollouts.save(replace(rolling, state=RolloutState.CANCELLED, ended_at=fleet.clock.now()))
    fleet.clock.advance(1800)
    fleet.assess(make_update(name="zlib", available="2"))
    request = fleet.request(new_rollout_hours=0.1)
    fleet.begin(request)
    assert len(rollouts.read_newest()) == 2
    reasons = {each.machine: each.reason for each in fleet.tick(request).decision.waiting}
    assert reasons["ber-1"] == "it had its turn in these off-peak hours"
    assert len(fleet.started("patch-fleet/on-demand")) == 1


def test_a_rollout_does_not_wait_for_ever_for_canaries_whose_runs_never_begin(
    fleet: AutomaticFleet, sent: list[Message]
) -> None:
    request = fleet.request(notify=[TARGET])
    fleet.assess(CURL)
    fleet.begin(request)
    for _ in range(16):
        for key in fleet.starter.started:
            fleet.starter.ends[f"flow of {key}"] = "its flow run ended Crashed"
        fleet.tick(request)
        fleet.clock.advance(24 * 3600)
        fleet.assess(CURL)
    assert all(each.only_machines == ["ber-1", "ber-2"] for each in fleet.started("patch-fleet/on-demand"))
    first, _ = SqlRollouts(fleet.records.database).read_newest()
    assert first.state is RolloutState.FAULTED
    assert "none of its machines could be patched in 8 days" in first.message
    assert any("rollout-0001 is faulted: phase 1 (ber)" in each.body for each in sent)
    turns = [each for each in fleet.tick(request).view.tries if each.machine == "ber-1"]
    assert {each.began for each in turns} == {False}


def test_runs_that_never_began_are_told_together_and_again_until_somebody_is_reached(
    fleet: AutomaticFleet, sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = fleet.request(notify=[TARGET])
    fleet.assess(CURL, names=("ber-1", "ber-2"))  # muc-1 was never assessed: two runs are started
    fleet.begin(request)
    for key in fleet.starter.started:
        fleet.starter.ends[f"flow of {key}"] = "its flow run ended Crashed"
    with monkeypatch.context() as patch:
        patch.setattr("flows.notify.notifier.send_with_apprise", lambda _url, _message: False)
        fleet.tick(request)
    assert not sent
    fleet.tick(request)
    (message,) = sent
    assert message.body.count("a run never began, because its flow run ended Crashed") == 2
    fleet.tick(request)
    assert len(sent) == 1


@pytest.mark.parametrize("location", ["ber", "elsewhere"])
def test_the_rollout_of_another_controller_with_the_same_records_is_left_alone(
    fleet: AutomaticFleet, sent: list[Message], location: str
) -> None:
    fleet.assess(CURL)
    fleet.begin()
    (rolling,) = SqlRollouts(fleet.records.database).read_newest()
    request = fleet.request(notify=[TARGET])
    fleet.write_inventory(f"machines: [{{name: x-1, address: 192.0.2.8, owner: managed, location: {location}}}]")
    fleet.assess(BASH, names=("x-1",))
    fleet.clock.advance(900)
    result = fleet.tick(request)
    assert SqlRollouts(fleet.records.database).read_newest() == (rolling,)
    assert len(fleet.started("patch-fleet/on-demand")) == 1
    assert [each.machine for each in result.decision.waiting] == ["x-1"]
    (message,) = sent
    assert f"fleetpatch automatic cancel {rolling.id}" in message.body


def test_ticks_that_can_not_use_the_inventory_are_told_once_a_day(fleet: AutomaticFleet, sent: list[Message]) -> None:
    request = fleet.request(notify=[TARGET])
    fleet.write_inventory("machines: [{name: x-1, adress: 192.0.2.8}]")
    for _ in range(3):
        with pytest.raises(InventoryError):
            fleet.tick(request)
    (message,) = sent
    assert "automatic patching can't go on" in message.body
    fleet.clock.advance(24 * 3600)
    with pytest.raises(InventoryError):
        fleet.tick(request)
    assert len(sent) == 2


@pytest.mark.parametrize("change", [("location: ber", "location: spandau"), ("name: ber-2", "name: ber-3")])
def test_failures_of_canaries_count_although_their_location_or_one_of_them_is_renamed(
    fleet: AutomaticFleet, change: tuple[str, str]
) -> None:
    request = fleet.request(max_tries=1)
    fleet.assess(CURL, BASH)
    fleet.begin(request)
    ((key, (_, started)),) = fleet.starter.started.items()
    assert isinstance(started, PatchRequest)
    assert started.only_machines == ["ber-1", "ber-2"]
    finish_run(fleet, started, key, failing="curl")
    fleet.write_inventory(INVENTORY.replace(*change))
    fleet.clock.advance(900)
    fleet.tick(request)
    (rollout,) = SqlRollouts(fleet.records.database).read_newest()
    assert rollout.state is RolloutState.FAULTED
    assert rollout.message == "phase 1 (ber): 2 of 2 machines failed; 95 % must succeed"


def test_records_of_a_clock_that_was_ahead_hide_no_machine_and_people_are_told(
    fleet: AutomaticFleet, sent: list[Message]
) -> None:
    """They would make machines seen, assessed, patched and far from their deadlines, for years."""
    request = fleet.request(notify=[TARGET])
    old, now = replace(CURL, published=None), fleet.clock.now()
    fleet.clock.advance(4000 * 24 * 3600)
    fleet.assess(old)
    fleet.begin(request)
    ((key, (_, started)),) = fleet.starter.started.items()
    finish_run(fleet, started, key)
    (rollout,) = SqlRollouts(fleet.records.database).read_newest()
    fleet.clock.advance((now - fleet.clock.now()).total_seconds())
    view = fleet.tick(request).view
    assert [(each.assessed_at, each.asked_at, each.pending) for each in view.machines] == [(None, None, ())] * 3
    (asked,) = fleet.started("assess-fleet/on-demand")
    assert sorted(asked.only_machines) == ["ber-1", "ber-2", "muc-1"]
    body = sent[-1].body
    assert "assessments or runs of ber-1, ber-2, muc-1 are ignored" in body
    assert f"{rollout.id} is faulted: its times are later than now" in body
    fleet.assess(old)
    fleet.clock.advance(60)
    count = len(sent)
    fleet.begin(request)
    assert len(sent) == count
    result = fleet.tick(request)
    assert {update.since for each in result.view.machines for update in each.pending} == {now}
    assert [each.only_machines for each in fleet.started("patch-fleet/on-demand")] == [["ber-1", "ber-2"]] * 2
    assert set(read_missing_fixes(fleet.records.database).values()) == {now}
    assert set(read_first_seen(fleet.records.database).values()) == {now}
