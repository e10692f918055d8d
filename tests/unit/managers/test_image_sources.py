"""Sources of images in which a newer one may be missed: such a machine is not compliant because nothing is offered."""

from dataclasses import replace
from typing import Any

import pytest

from tasks.domain.compliance import UNASKED_SOURCE
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Compliance
from tasks.machines.managers.image.bootc.tool import BOOTC
from tasks.machines.managers.image.manager import ImageManager, ImageTool
from tasks.machines.managers.image.rpm_ostree.tool import RPM_OSTREE
from tasks.machines.managers.image.transactional_update.tool import TRANSACTIONAL_UPDATE
from tasks.steps.machine.package_state import keep_repository_problems
from tests.support.builders import START, make_assessment
from tests.unit.managers.test_image import DEADLINE, Replay, change, manager_of, replay

DIGEST = f"@sha256:{'ab' * 32}"
EXPIRED = "Warning: Repository 'SLE-Micro-Updates' metadata expired since 2026-01-04 09:42:11 UTC.\n"


@pytest.mark.parametrize(
    ("tool", "name", "before", "after", "words"),
    [
        (BOOTC, "rhel-image-mode-9-update", "ops/rhel-bootc:9", f"ops/rhel-bootc{DIGEST}", "one exact image"),
        (
            RPM_OSTREE,
            "container-desktop-43-update",
            "ublue/desktop:stable",
            f"ublue/desktop{DIGEST}",
            "one exact image",
        ),
        (RPM_OSTREE, "fedora-coreos-43-update", '"booted": true', '"booted": true, "endoflife": "moved"', "moved"),
        # the words of https://github.com/openSUSE/zypper/pull/464
        (
            TRANSACTIONAL_UPDATE,
            "sle-micro-5.5-current",
            "Loading repository",
            f"{EXPIRED}Loading repository",
            "expired",
        ),
    ],
)
def test_a_source_that_offers_nothing_newer_is_a_problem(
    tool: ImageTool, name: str, before: str, after: str, words: str
) -> None:
    state = ImageManager(tool).assess(change(name, (before, after)), refresh=False, deadline=DEADLINE)
    (problem,) = state.repository_problems
    assert words in problem.message
    assert problem.hides_fixes


def drop_check(machine: Any) -> Any:
    """Return a machine that answers the same without a refresh."""
    records = tuple(each for each in machine.result.records if each.get("name") != "check")
    return Replay(ScriptResult(records, 0))


@pytest.mark.parametrize(
    ("name", "key"), [("rhel-image-mode-9-update", "cachedUpdate"), ("fedora-coreos-43-update", "cached-update")]
)
def test_a_source_that_was_never_asked_leaves_the_judgement_open(name: str, key: str) -> None:
    manager, never = manager_of(name), change(name, (f'"{key}"', '"other"'))
    state = manager.assess(drop_check(never), refresh=False, deadline=DEADLINE)
    assert (state.updates, state.repository_problems) == ((), (UNASKED_SOURCE,))
    assert make_assessment(packages=state).compliance is Compliance.NOT_ASSESSED

    asked = manager.assess(never, refresh=True, deadline=DEADLINE)
    assert asked.repository_problems == ()
    assert keep_repository_problems(state, replace(asked, asked_at=START), START).repository_problems == (), (
        "as after the reboot of a run"
    )
    assert keep_repository_problems(state, state, START).repository_problems == (UNASKED_SOURCE,)


@pytest.mark.parametrize("name", ["rhel-image-mode-9-update", "fedora-coreos-43-staged", "rhel-image-mode-9-staged"])
def test_a_source_whose_answer_is_kept_was_asked(name: str) -> None:
    state = manager_of(name).assess(drop_check(replay(name)), refresh=False, deadline=DEADLINE)
    assert UNASKED_SOURCE not in state.repository_problems
