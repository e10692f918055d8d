"""Who may patch a machine: Azure's truth table in our words."""

import pytest

from inventory.machine import PatchOwner
from tasks.rules.timing.admission import check_patch_owner
from tests.support import builders as make

TABLE = [  # the third is Y,F,Y, the error
    # orchestrated, bypass, schedule -> what Azure does
    (PatchOwner.FLEETPATCH, "web", ""),  # Y,T,Y: runs the schedule
    (PatchOwner.FLEETPATCH, "", ""),  # Y,T,N: nothing by itself; a person may ask for updates now
    (
        PatchOwner.MANAGED,
        "web",
        "prerequisites not met: it is managed, so configuration 'web' may not patch it",
    ),  # Y,F,Y
    (PatchOwner.MANAGED, "", ""),  # Y,F,N: patched by the platform
    (PatchOwner.OS, "web", "prerequisites not met: it is patched by its owner: os"),  # N,*,Y
    (PatchOwner.MANUAL, "web", "prerequisites not met: it is patched by its owner: manual"),
    (PatchOwner.OS, "", "it is patched by its owner: os"),  # N,*,N
    (PatchOwner.MANUAL, "", "it is patched by its owner: manual"),
]


@pytest.mark.parametrize(("owner", "configuration", "why"), TABLE)
def test_azures_truth_table(owner: PatchOwner, configuration: str, why: str) -> None:
    assert check_patch_owner(make.make_machine(owner=owner), configuration) == why


def test_every_mode_has_its_lines_in_the_table() -> None:
    assert {(owner, bool(configuration)) for owner, configuration, _ in TABLE} == {
        (owner, scheduled) for owner in PatchOwner for scheduled in (True, False)
    }


def test_what_nothing_may_patch_is_not_ours() -> None:
    for owner in PatchOwner:
        machine = make.make_machine(owner=owner)
        assert owner.is_patchable == any(
            check_patch_owner(machine, configuration) == "" for configuration in ("", "web")
        )
