"""Sources of images in which a newer one may be missed: such a machine is not compliant because nothing is offered."""

import pytest

from tasks.managers.image.bootc.tool import BOOTC
from tasks.managers.image.manager import ImageManager, ImageTool
from tasks.managers.image.rpm_ostree.tool import RPM_OSTREE
from tasks.managers.image.transactional_update.tool import TRANSACTIONAL_UPDATE
from tests.unit.managers.test_image import DEADLINE, change

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
