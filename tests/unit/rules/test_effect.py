"""Whether fixes are in effect: what was installed since the assessment before, and what still runs old files."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.domain.model import Assessment, PackageState, RebootNeed, Update, WaitingFixes
from tasks.domain.states import Classification, Compliance, YesNoUnknown
from tasks.rules.updates.effect import describe_waiting, find_waiting_fixes, judge_effect
from tests.support.builders import make_facts

FIX = Update("openssl", "openssl", "amd64", "1", "2", Classification.SECURITY)
KERNEL = replace(FIX, id="linux", name="linux", changes_boot=True)
OTHER = replace(FIX, id="vim", name="vim", classification=Classification.OTHER)
T0 = datetime(2026, 11, 29, tzinfo=UTC)
BEFORE, AFTER = make_facts(boot_id="a"), make_facts(boot_id="b")


def state(*updates: Update, services: tuple[str, ...] = (), reboot: YesNoUnknown = YesNoUnknown.NO) -> PackageState:
    return PackageState("apt", updates, RebootNeed(reboot), services_to_restart=services, updater_units=("apt-daily*",))


def before(packages: PackageState) -> Assessment:
    return Assessment("web", T0, 1.0, facts=BEFORE, packages=packages)


def compliance(packages: PackageState, waiting: WaitingFixes | None) -> Compliance:
    return before(replace(packages, waiting=waiting)).compliance


@pytest.mark.parametrize(
    ("installed", "certain"),
    [((FIX,), True), ((FIX, OTHER), False), (None, False)],  # None: others installed it
)
def test_a_service_that_runs_what_a_fix_replaced(installed: tuple[Update, ...] | None, certain: bool) -> None:
    now = state(services=("nginx.service", "apt-daily.service"))
    waiting = find_waiting_fixes(now, BEFORE, before(state(FIX, OTHER)), installed)
    assert waiting == WaitingFixes(services=("nginx.service",), is_certain=certain)
    wanted = Compliance.NON_COMPLIANT if certain else Compliance.NOT_ASSESSED
    assert compliance(now, waiting) is wanted
    assert judge_effect(replace(now, waiting=waiting))[0] is (YesNoUnknown.NO if certain else YesNoUnknown.UNKNOWN)


def test_a_service_of_others_says_nothing_of_a_fix() -> None:
    old = state(FIX, OTHER, services=("nginx.service",))
    now = state(FIX, services=("nginx.service", "cron.service"))
    waiting = find_waiting_fixes(now, BEFORE, before(old), (OTHER,))
    assert waiting is None
    answer, reason = judge_effect(replace(now, updates=()))
    assert (answer, reason) == (YesNoUnknown.UNKNOWN, "2 services still run replaced files")
    assert compliance(state(services=("nginx.service",)), None) is Compliance.COMPLIANT
    assert judge_effect(state()) == (YesNoUnknown.YES, "")
    assert judge_effect(state(reboot=YesNoUnknown.UNKNOWN))[0] is YesNoUnknown.UNKNOWN
    assert find_waiting_fixes(now, BEFORE, None) is None


def test_a_service_that_ran_old_files_before_may_now_run_more_of_them() -> None:
    old = state(FIX, services=("nginx.service",))
    waiting = find_waiting_fixes(state(services=("nginx.service",)), BEFORE, before(old), (FIX,))
    assert waiting == WaitingFixes(services=("nginx.service",), is_certain=False)


def test_a_kernel_waits_for_its_reboot_and_no_longer() -> None:
    now = state(reboot=YesNoUnknown.YES)
    waiting = find_waiting_fixes(now, BEFORE, before(state(KERNEL)), (KERNEL, OTHER))
    assert waiting == WaitingFixes(("linux",), needs_reboot=True)
    assert describe_waiting(waiting) == "1 fix (linux) installed, not in effect: a reboot is required"
    assert find_waiting_fixes(now, BEFORE, before(state(KERNEL))) == waiting  # others installed it
    told = replace(now, reboot=replace(now.reboot, mitigated_by="kpatch"))
    assert find_waiting_fixes(told, BEFORE, before(state(KERNEL)), (KERNEL,)) is None
    assert find_waiting_fixes(state(), AFTER, before(replace(now, waiting=waiting))) is None
    unbooted = find_waiting_fixes(now, AFTER, before(replace(now, waiting=waiting)))  # it booted the old one again
    assert unbooted == replace(waiting, is_certain=False)


def test_what_waits_is_remembered_until_it_has_restarted() -> None:
    waiting = WaitingFixes(services=("cron.service", "nginx.service"))
    old = before(replace(state(services=waiting.services), waiting=waiting))
    now = state(services=("nginx.service", "foreign.service"))
    assert find_waiting_fixes(now, BEFORE, old) == WaitingFixes(services=("nginx.service",))
    assert find_waiting_fixes(state(services=("foreign.service",)), BEFORE, old) is None
    assert find_waiting_fixes(now, AFTER, old) is None


def test_after_the_reboot_of_a_run_nothing_of_it_runs_old_files() -> None:
    now = state(services=("odd.service",))
    assert find_waiting_fixes(now, AFTER, before(state(FIX)), (FIX,)) is None


def test_what_the_machine_tells_itself_counts() -> None:
    told = WaitingFixes(("KB1",), needs_reboot=True)
    assert find_waiting_fixes(replace(state(), waiting=told), BEFORE, None) == told
