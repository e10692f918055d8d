"""What the errors of transactions mean for updates, for the report, and for the next boot."""

from dataclasses import replace

import pytest

from tasks.domain.model import TransactionResult, Update
from tasks.domain.states import UpdateState
from tasks.rules.updates.results import build_update_results
from tasks.rules.updates.transaction_errors import find_boot_danger, find_setup_error, find_unattributed_errors
from tests.unit.rules.examples import NOW, a_state, an_update

SSL, FILE = an_update("openssl"), an_update("file")
KERNEL = an_update("linux-image-amd64", changes_boot=True)
HOOK = "failed: E: Problem executing scripts DPkg::Post-Invoke 'false'"


def ran(*updates: Update, exit_code: int | None = 0, detail: str = "", number: int = 0) -> TransactionResult:
    return TransactionResult(number, tuple(update.id for update in updates), NOW, NOW, exit_code, detail)


def results(*updates: Update, transaction: TransactionResult, versions: dict[str, str] | None = None):
    now = {update.id: "1.1" for update in updates} if versions is None else versions
    return build_update_results(updates, a_state(*updates), now, [transaction], {})


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("dpkg: error processing package file (--configure)", True),
        ("maintainer-script: file is half-configured", True),
        ("warning: %posttrans(file-1.1.amd64) scriptlet failed, exit status 1", True),
        ("there is no such file in /boot", False),
        ("/usr/bin/file: not found", False),
        ("file is not set up because openssl failed", False),
        ("openssl is not set up because file failed", False),
    ],
)
def test_a_name_that_is_a_word_counts_only_where_a_package_is_named(text, is_named):
    assert bool(find_setup_error(FILE, ran(FILE, SSL, exit_code=1, detail=text))) is is_named


def test_the_error_of_a_hook_is_told_although_all_versions_are_right():
    hook = ran(SSL, exit_code=100, detail=HOOK)
    found = results(SSL, transaction=hook)
    assert [result.state for result in found] == [UpdateState.INSTALLED]
    assert find_unattributed_errors([hook], found) == (HOOK,)


def test_an_exit_code_without_words_is_told_if_nothing_failed():
    bare = ran(SSL, exit_code=100)
    assert find_unattributed_errors([bare], results(SSL, transaction=bare)) == ("exit code 100",)
    assert find_unattributed_errors([bare], results(SSL, transaction=bare, versions={SSL.id: "1.0"})) == ()
    assert find_unattributed_errors([ran(SSL)], results(SSL, transaction=ran(SSL))) == ()


def test_an_error_of_an_update_is_not_repeated():
    broken = ran(SSL, FILE, exit_code=100, detail="failed: dpkg: error processing package openssl (--configure)")
    found = results(SSL, FILE, transaction=broken)
    assert [result.state for result in found] == [UpdateState.SETUP_FAILED, UpdateState.INSTALLED]
    assert find_unattributed_errors([broken], found) == ()


def test_errors_of_the_first_transaction_of_an_update_that_failed_again_are_not_told_apart():
    """Recorded from dnf 4.14: with others, rpm tells more than of the package alone."""
    script = "error: %prein(openssl-1.1.amd64) scriptlet failed, exit status 1"
    more = "error: openssl-1.1.amd64: install failed; error: openssl-1.0.amd64: erase skipped"
    both = ran(SSL, FILE, exit_code=1, detail=f"{script}; {more}; {HOOK}")
    alone = ran(SSL, exit_code=1, detail=script, number=1)
    found = results(SSL, transaction=alone, versions={SSL.id: "1.0"})
    assert [result.state for result in found] == [UpdateState.FAILED]
    assert find_unattributed_errors([both, alone], found) == (HOOK,)


def test_words_of_a_transaction_count_no_more_after_a_later_one():
    words = "openssl: trying to overwrite '/x'; file is not set up because openssl failed"
    first, second = ran(SSL, FILE, exit_code=100, detail=words), ran(SSL, number=1)
    found = build_update_results((SSL, FILE), a_state(SSL, FILE), {SSL.id: "1.1", FILE.id: "1.1"}, [first, second], {})
    assert [result.state for result in found] == [UpdateState.INSTALLED, UpdateState.INSTALLED]
    assert find_unattributed_errors([first, second], found) == ()
    with_hook = ran(SSL, FILE, exit_code=100, detail=f"{words}; {HOOK}")
    assert find_unattributed_errors([with_hook, second], found) == (HOOK,)


@pytest.mark.parametrize("detail", [HOOK, "", "dpkg: error processing package openssl (--configure)"])
def test_no_reboot_after_a_transaction_that_changed_the_boot_and_ended_with_an_error(detail):
    bad = ran(KERNEL, SSL, exit_code=100, detail=detail)
    assert "linux-image-amd64" in find_boot_danger(results(KERNEL, SSL, transaction=bad), [bad], [])


def test_errors_that_changed_nothing_of_the_boot_let_it_reboot():
    good, bad = ran(KERNEL, number=1), ran(KERNEL, SSL, exit_code=100, detail=HOOK)
    assert find_boot_danger(results(KERNEL, transaction=good), [good], []) == ""
    untouched = results(KERNEL, SSL, transaction=bad, versions={KERNEL.id: "1.0", SSL.id: "1.1"})
    assert find_boot_danger(untouched, [bad], []) == ""
    assert find_boot_danger(results(KERNEL, transaction=good), [bad, good], []) == ""  # the second one changed it


def test_a_package_that_was_broken_before_is_no_danger_but_for_the_boot():
    old = ran(KERNEL, exit_code=100, detail="dpkg: error processing package lab-failing (--configure)")
    found = results(KERNEL, transaction=old)
    assert find_boot_danger(found, [old], ["lab-failing"]) == ""
    assert find_boot_danger(found, [old], ["lab-fail"]) != ""
    dracut = replace(old, detail="dpkg: error processing package dracut (--configure)")
    assert "about the boot" in find_boot_danger(found, [dracut], ["dracut"])


def test_an_end_that_was_not_seen_is_a_danger():
    lost = ran(KERNEL, exit_code=None)
    assert "its end was not seen" in find_boot_danger(results(KERNEL, transaction=lost), [lost], [])
