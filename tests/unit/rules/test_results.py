import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import TransactionResult, UpdateResult
from tasks.domain.states import UpdateState
from tasks.rules.updates.results import build_update_results, mark_changed_dependencies
from tests.unit.rules.examples import NOW, a_state, an_update

SSL = an_update()
NEW = an_update("newlib", installed=None)


def ran(*updates, exit_code=0, detail="", number=0, started=NOW):
    return TransactionResult(number, tuple(update.id for update in updates), started, NOW, exit_code, detail)


def settled(update, now, *transactions, not_attempted=None):
    versions = {} if now is None else {update.id: now}
    (found,) = build_update_results([update], a_state(update), versions, transactions, not_attempted or {})
    return found


def test_the_wanted_version_is_installed():
    assert settled(SSL, "1.1", ran(SSL)) == UpdateResult(SSL, UpdateState.INSTALLED, "", "1.1")
    assert settled(NEW, "1.1", ran(NEW)).state is UpdateState.INSTALLED


def test_another_version_is_installed_with_a_note():
    found = settled(SSL, "1.2", ran(SSL))
    assert found.state is UpdateState.INSTALLED
    assert found.reason == "version 1.2 was installed in place of 1.1"


def test_the_database_is_believed_against_a_bad_exit_code():
    found = settled(SSL, "1.1", ran(SSL, exit_code=100, detail="another package broke"))
    assert (found.state, found.reason) == (UpdateState.INSTALLED, "")


def test_an_exit_code_without_words_is_no_complaint():
    assert settled(SSL, "1.1", ran(SSL, exit_code=102)).reason == ""
    assert settled(SSL, "1.1", ran(SSL, exit_code=0)).reason == ""


def test_a_failed_script_is_a_state_of_its_own_although_the_exit_code_is_good():
    told = settled(SSL, "1.1", ran(SSL, exit_code=0, detail="warning: %post(openssl-1.1) scriptlet failed"))
    assert told.state is UpdateState.SETUP_FAILED
    assert "scriptlet failed" in told.reason


def of_rpm(name, arch="x86_64", **fields):
    versions = {"installed": "1:1.0-1.el9", "available": "1:1.1-2.el9"}
    return an_update(
        name, arch=arch, id=name if arch in {"x86_64", "noarch"} else f"{name}.{arch}", **versions, **fields
    )


@pytest.mark.parametrize(
    "text",
    [
        "warning: %post(compat-1:1.1-2.el9.x86_64) scriptlet failed, exit status 127",
        "warning: %postun(compat-1.0-1.el9.x86_64) scriptlet failed, exit status 127",
        '>>> [RPM] lua script failed: [string "%post(compat-1:1.1-2.el9.x86_64)"]:1: failing',
        ">>> Non-critical error in post-install scriptlet: compat-1:1.1-2.el9.x86_64",
        "Error in POSTIN scriptlet in rpm package compat",
    ],
)
def test_the_script_that_failed_of_one_of_several_packages_is_told_with_that_package(text):
    compat, foreign, longer = of_rpm("compat"), of_rpm("compat", arch="i686"), of_rpm("compat-1")
    several = (compat, foreign, longer, of_rpm("at"))
    versions = {update.id: "1:1.1-2.el9" for update in several}
    detail = f"maintainer-script: {text}; something else"
    found = build_update_results(several, a_state(*several), versions, [ran(*several, detail=detail)], {})
    told = [result.update.id for result in found if "script" in result.reason]
    assert told == (["compat"] if ".x86_64" in text else ["compat", "compat.i686"])


def test_what_was_there_already_is_installed():
    same = an_update(installed="1.1")
    assert settled(same, "1.1", ran(same)) == UpdateResult(same, UpdateState.INSTALLED, "it was there already", "1.1")


def test_what_was_there_before_is_asked_of_the_state_before():
    newer = an_update(installed="1.0")
    (found,) = build_update_results([newer], a_state(an_update(installed="0.9")), {newer.id: "1.0"}, [ran(newer)], {})
    assert found.state is UpdateState.INSTALLED
    assert found.reason == "version 1.0 was installed in place of 1.1"


def test_the_database_is_believed_against_a_good_exit_code():
    found = settled(SSL, "1.0", ran(SSL))
    assert found.state is UpdateState.FAILED
    assert (
        found.reason
        == "version 1.0 is still there afterwards: its transaction reported success and yet did not change it"
    )
    assert found.version_after == "1.0"


def test_a_failure_carries_its_detail():
    assert "disk full (exit code 100)" in settled(SSL, "1.0", ran(SSL, exit_code=100, detail="disk full")).reason
    assert "exit code 100" in settled(SSL, "1.0", ran(SSL, exit_code=100)).reason
    assert "its end was not seen" in settled(SSL, "1.0", ran(SSL, exit_code=None)).reason
    assert settled(NEW, None, ran(NEW)).reason.startswith("it is not there afterwards")


def test_the_last_transaction_that_ran_counts():
    found = settled(SSL, "1.0", ran(SSL, number=1, exit_code=1, detail="second"), ran(SSL, exit_code=1, detail="first"))
    assert "second" in found.reason


def test_what_was_not_attempted_says_why():
    found = settled(SSL, "1.0", not_attempted={SSL.id: "no time"})
    assert (found.state, found.reason) == (UpdateState.NOT_ATTEMPTED, "no time")
    assert settled(SSL, "1.0", ran(SSL, started=None)).reason == "the job ended before its turn came"
    assert settled(NEW, None).state is UpdateState.NOT_ATTEMPTED


def test_what_came_along_though_not_attempted_is_installed():
    found = settled(SSL, "1.1", not_attempted={SSL.id: "no time"})
    assert (found.state, found.reason) == (
        UpdateState.INSTALLED,
        "it was installed by others (no time)",
    )


def test_what_changed_without_a_transaction_of_its_own_came_along_or_is_somebody_elses():
    [first, second] = build_update_results(
        [NEW, SSL], a_state(NEW, SSL), {NEW.id: "1.1", SSL.id: "1.1"}, [ran(NEW)], {}
    )
    assert first.reason == ""
    assert second.reason == "it came along with another update, or it was installed by others"


def test_what_is_no_longer_whole_failed_even_when_it_was_not_attempted():
    for transactions in ((), (ran(SSL, exit_code=100, detail="postinst failed"),)):
        found = settled(SSL, None, *transactions)
        assert found.state is UpdateState.FAILED
        assert found.reason.startswith("left half-configured")
    assert "postinst failed" in found.reason


def test_skipped_updates_that_moved_are_told_as_installed():
    skipped = [
        UpdateResult(SSL, UpdateState.NOT_SELECTED, "not selected"),
        UpdateResult(an_update("b"), UpdateState.EXCLUDED, "excluded by mask"),
        UpdateResult(an_update("c"), UpdateState.NOT_SELECTED, "not selected"),
        UpdateResult(an_update("d"), UpdateState.NOT_SELECTED, "not selected"),
    ]
    along = mark_changed_dependencies(skipped, {SSL.id: "1.1", "b:amd64": "1.1", "c:amd64": "1.0"})
    assert [result.state for result in along] == [
        UpdateState.INSTALLED,
        UpdateState.INSTALLED,
        UpdateState.NOT_SELECTED,
        UpdateState.NOT_SELECTED,
    ]
    assert along[0].reason == "it came along as a dependency, or it was installed by others"
    assert "it was not to be installed: excluded by mask" in along[1].reason


@given(
    st.lists(st.sampled_from(("a", "b", "c", "d")), unique=True),
    st.dictionaries(st.sampled_from(("a:amd64", "b:amd64", "c:amd64")), st.sampled_from(("1.0", "1.1", "9"))),
    st.lists(
        st.builds(ran, st.sampled_from((an_update("a"), an_update("b"))), exit_code=st.sampled_from((0, 1, None)))
    ),
)
def test_every_chosen_update_has_one_result_that_agrees_with_the_database(names, versions, transactions):
    chosen = [an_update(name) for name in names]
    found = build_update_results(chosen, a_state(*chosen), versions, transactions, {})
    assert [result.update for result in found] == chosen
    for result in found:
        now = versions.get(result.update.id)
        assert result.version_after == now
        assert (result.state is UpdateState.INSTALLED) == (now not in (None, "1.0"))
        assert result.reason or result.state is UpdateState.INSTALLED
