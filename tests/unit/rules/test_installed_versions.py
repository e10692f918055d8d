"""After the installation: which updates are no longer there, and which of them a reboot has rolled back."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.states import FindingLevel, UpdateState
from tasks.rules.updates.results import (
    check_installed_versions,
    find_lost_updates,
    find_rolled_back_updates,
    mark_lost,
)
from tests.support.builders import make_install_result, make_update, make_update_result

RESULT = make_update_result(update=make_update(id="a", name="a", installed="1", available="2"), version_after="2")
OTHER = make_update_result(update=make_update(id="b", name="b", installed="1", available="2"), version_after="2")


def test_updates_at_their_version_are_good() -> None:
    (finding,) = check_installed_versions([RESULT] * 3, {}, {})
    assert (finding.level, finding.message) == (FindingLevel.GOOD, "3 updates are at their new version")


def test_what_others_changed_is_told_apart_from_what_was_rolled_back() -> None:
    wrong = {"a": "1", "b": "3"}
    rolled_back = find_rolled_back_updates([RESULT, OTHER], wrong)
    assert rolled_back == {"a": "1"}
    first, second = check_installed_versions([RESULT, OTHER], wrong, rolled_back)
    assert {first.level, second.level} == {FindingLevel.BLOCK}
    assert first.message == "rolled back during the boot: a is at 1 again"
    assert second.message == "not at the version that was installed: b"


def test_an_update_that_is_lost_after_the_reboot_has_failed_and_says_what_runs() -> None:
    third = make_update_result(update=make_update(id="c", installed="1", available="2"), version_after="2")
    install = mark_lost(make_install_result(results=(RESULT, OTHER, third)), {"a": "1", "b": "0"})
    assert install is not None
    assert [(r.state, r.version_after, r.reason) for r in install.results] == [
        (UpdateState.FAILED, "1", "rolled back during the boot: 1 runs again"),
        (UpdateState.FAILED, "0", "the machine has 0 after the reboot, not 2"),  # 1 was staged, and never ran
        (UpdateState.INSTALLED, "2", third.reason),
    ]
    assert mark_lost(None, {"a": "1"}) is None


@given(st.sampled_from([None, "1", "2", "3"]))
def test_only_the_version_of_before_is_a_rollback(now: str | None) -> None:
    assert find_rolled_back_updates([RESULT], {"a": now}) == ({"a": "1"} if now == "1" else {})


NEW = make_update_result(
    update=make_update(id="n-1", name="KB1", installed=None, available="rev 200"), version_after="rev 200"
)


def test_what_was_not_there_before_and_is_not_there_after_the_boot_was_rolled_back() -> None:
    wrong: dict[str, str | None] = {"a": None, "n-1": None}
    lost = find_lost_updates([RESULT, NEW], wrong)
    assert lost == {"n-1": None}, "an update that replaced a version may only be incomplete"
    rolled_back = find_rolled_back_updates([RESULT, NEW], lost)
    first, second = check_installed_versions([RESULT, NEW], wrong, rolled_back)
    assert first.message == "rolled back during the boot: KB1 is not installed any more"
    assert second.message == "not at the version that was installed: a"
    install = mark_lost(make_install_result(results=(RESULT, NEW)), lost)
    assert install is not None
    assert [(r.state, r.version_after, r.reason) for r in install.results] == [
        (UpdateState.INSTALLED, "2", RESULT.reason),
        (UpdateState.FAILED, None, "rolled back during the boot: it is not installed any more"),
    ]
