"""What has to be done so that what is there becomes what is wanted."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.sync.diff import find_changes, is_up_to_date
from deployments.sync.model import Automation, Change, ChangeAction, Deployment, DeploymentSet, ScheduleSpec, WorkPool
from deployments.sync.plan import require_names_not_taken
from tasks.domain.errors import RequestError

LINE = ScheduleSpec("window", "DTSTART:20260310T220000\nRRULE:FREQ=MONTHLY;BYDAY=2TU", "Europe/Berlin")
WEB = Deployment("patch-fleet", "web", "flows.patch.patch_fleet", parameters={"request": {"scope": "env=prod"}})
LATE = Automation("late", "", {"within": 60.0}, ({"state": "CRASHED"},))


def only(done: tuple[Change, ...]) -> Change:
    assert len(done) == 1
    return done[0]


def difference(ours: Any, theirs: Any) -> tuple[str, ...]:
    change = only(find_changes(DeploymentSet((ours,)), DeploymentSet((theirs,))))
    assert change.action is ChangeAction.UPDATE
    return change.differences


def test_what_is_missing_is_created_pools_first() -> None:
    done = find_changes(DeploymentSet((WEB,), (LATE,), (WorkPool("fleet"),)), DeploymentSet())

    assert [(change.action, change.kind, change.name) for change in done] == [
        (ChangeAction.CREATE, "work pool", "fleet"),
        (ChangeAction.CREATE, "deployment", "patch-fleet/web"),
        (ChangeAction.CREATE, "automation", "late"),
    ]


def test_what_is_as_it_should_be_is_kept() -> None:
    setup = DeploymentSet((replace(WEB, schedules=(LINE,)),), (LATE,), (WorkPool("fleet"),))

    done = find_changes(setup, setup)

    assert {change.action for change in done} == {ChangeAction.KEEP}
    assert is_up_to_date(done)


def test_what_is_not_wanted_any_more_is_removed_when_that_is_wanted() -> None:
    found = DeploymentSet((WEB,), (LATE,), (WorkPool("somebody's"),))

    assert {(change.kind, change.action) for change in find_changes(DeploymentSet(), found)} == {
        ("deployment", ChangeAction.REMOVE),
        ("automation", ChangeAction.REMOVE),
    }
    assert find_changes(DeploymentSet(), found, prune=False) == ()


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (replace(WEB, schedules=(LINE,), paused=True), "paused: true → false"),
        (replace(WEB, schedules=()), "schedule window: missing"),
        (replace(WEB, schedules=(LINE, replace(LINE, slug="mine"))), "schedule mine: not ours"),
        (replace(WEB, schedules=(replace(LINE, active=False),)), "schedule window: active false → true"),
        (replace(WEB, schedules=(replace(LINE, zone="UTC"),)), "schedule window: zone UTC → Europe/Berlin"),
        (
            replace(WEB, schedules=(LINE,), parameters={"request": {"scope": "*"}}),
            "parameters request.scope: * → env=prod",
        ),
        (replace(WEB, schedules=(LINE,), at_once=3), "at_once: 3 → nothing"),
        (replace(WEB, schedules=(LINE,), schema={"title": "Old"}), "form: title: Old → nothing"),
        (  # another release's form differs in dozens of places
            replace(WEB, schedules=(LINE,), schema={"title": "Old", "required": ["x"], "properties": {"x": {}}}),
            'form: properties: {"x": {}} → nothing, and 2 more',
        ),
    ],
)
def test_what_somebody_changed_by_hand_is_told_in_a_line(theirs: Deployment, told: str) -> None:
    assert difference(replace(WEB, schedules=(LINE,)), theirs) == (told,)


def test_when_a_list_of_dates_ends_is_no_difference() -> None:
    lasting = replace(LINE, until=None)
    assert is_up_to_date(
        find_changes(
            DeploymentSet((replace(WEB, schedules=(LINE,)),)), DeploymentSet((replace(WEB, schedules=(lasting,)),))
        )
    )


_DEPLOYMENTS = st.builds(
    Deployment,
    flow=st.sampled_from(["patch-fleet", "assess-fleet"]),
    name=st.sampled_from(["a", "b", "c"]),
    entrypoint=st.sampled_from(["x.y", "x.z"]),
    description=st.sampled_from(["", "other"]),
    paused=st.booleans(),
)
_SETUPS = st.lists(_DEPLOYMENTS, unique_by=lambda each: each.full_name).map(lambda found: DeploymentSet(tuple(found)))


def test_another_fleets_deployments_are_not_taken_over() -> None:
    theirs = replace(WEB, tags=("fleetpatch", "fleetpatch:fleet=north"))

    with pytest.raises(RequestError, match="patch-fleet/web belongs to the fleet 'north' on this server") as caught:
        require_names_not_taken({"patch-fleet/web": theirs}, "default")

    assert "--fleet north" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "theirs",
    [WEB, replace(WEB, tags=("mine",)), replace(WEB, tags=("fleetpatch",))],
)
def test_a_persons_own_deployment_is_not_taken_over(theirs: Deployment) -> None:
    with pytest.raises(
        RequestError, match="patch-fleet/web exists in Prefect, and fleetpatch did not create it"
    ) as caught:
        require_names_not_taken({"patch-fleet/web": theirs}, "default")

    assert "prefect deployment delete 'patch-fleet/web'" in (caught.value.hint or "")


@given(_SETUPS, _SETUPS)
def test_doing_all_of_it_leads_to_what_is_wanted(wanted: DeploymentSet, found: DeploymentSet) -> None:
    there = {each.full_name: each for each in found.deployments}
    mine = {each.full_name: each for each in wanted.deployments}
    for change in find_changes(wanted, found):
        if change.action is ChangeAction.REMOVE:
            del there[change.name]
        elif change.action is not ChangeAction.KEEP:
            there[change.name] = mine[change.name]

    assert there == mine
    assert is_up_to_date(find_changes(wanted, DeploymentSet(tuple(there.values()))))
