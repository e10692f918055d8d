from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import RebootNeed
from tasks.domain.protocols.package_manager import MAX_TRANSACTION_UPDATES, Rates
from tasks.domain.states import Classification, RebootPolicy, UpdateState, YesNoUnknown
from tasks.machines.managers.apt.manager import DEFAULT_RATES as APT
from tasks.rules.updates.transaction_planning import (
    group_updates,
    learn_rates,
    must_install_last,
    plan_transactions,
    predict_durations,
    predict_reboot_need,
    rank_urgency,
)
from tests.unit.rules.examples import NOW, an_update
from tests.unit.rules.examples import updates as any_update

rates = st.builds(
    Rates,
    transaction_seconds=st.floats(0, 120),
    install_seconds_per_update=st.floats(0.01, 300),
    download_bytes_per_second=st.just(1e6),
    reboot_seconds=st.just(300.0),
    validate_seconds=st.just(30.0),
)
many = st.lists(any_update, max_size=12, unique_by=lambda update: update.id)


def test_the_rates_of_apt_before_anything_was_measured():
    assert Rates(15.0, 2.0, 1e6, 300.0, 30.0, basis="defaults") == APT


def names(transaction):
    return [update.name for update in transaction.updates]


def uniform(count):
    return [an_update(f"p{number:03}") for number in range(count)]


def split(updates, left, speed=APT, **options):
    options = {"skew_seconds": 0.0} | options
    return plan_transactions(updates, rates=speed, now=NOW, cut_off=NOW + timedelta(seconds=left), **options)


@given(many, rates, st.floats(-60, 5000), st.floats(-100, 100), st.booleans(), st.integers(0, 9))
def test_nothing_is_lost_or_doubled_and_nothing_starts_that_does_not_fit(updates, speed, left, skew, single, first):
    found, left_out = split(updates, left, speed, skew_seconds=skew, one_by_one=single, first_number=first)
    ids = [update.id for transaction in found for update in transaction.updates]
    ids += [result.update.id for result in left_out]
    assert Counter(ids) == Counter(update.id for update in updates)
    assert [transaction.number for transaction in found] == list(range(first, first + len(found)))
    cut_off = NOW.timestamp() + left
    starts = NOW.timestamp()
    for transaction in found:
        assert transaction.predicted_seconds == speed.predict_install_seconds(len(transaction.updates))
        latest_by_our_clock = transaction.latest_start - skew
        assert latest_by_our_clock + transaction.predicted_seconds <= cut_off + 1e-3
        assert starts <= latest_by_our_clock + 1e-3
        starts += transaction.predicted_seconds
    for result in left_out:
        assert result.state is UpdateState.NOT_ATTEMPTED
        assert "needs about" in result.reason


@given(many, rates, st.floats(0, 5000), st.booleans())
def test_groups_stay_whole(updates, speed, left, single):
    found, left_out = split(updates, left, speed, one_by_one=single)
    homes = {update.id: transaction.number for transaction in found for update in transaction.updates}
    homes |= {result.update.id: -1 for result in left_out}
    for unit in group_updates(updates):
        assert len({homes[update.id] for update in unit}) == 1
    if single:
        assert all(len(group_updates(transaction.updates)) == 1 for transaction in found)


@given(st.integers(0, 900), rates, st.floats(0, 20_000))
def test_uniform_transactions_shrink_and_take_at_most_a_third(count, speed, left):
    found, left_out = split(uniform(count), left, speed)
    assert all(before >= after for before, after in pairwise(len(each.updates) for each in found))
    for transaction in found:
        assert len(transaction.updates) <= MAX_TRANSACTION_UPDATES
        if len(transaction.updates) > 1:
            assert transaction.predicted_seconds <= left / 3 + 1e-3
        left -= transaction.predicted_seconds
    if left_out:  # what was left out really could not begin
        assert speed.predict_install_seconds(1) > left - 1e-3


def test_one_transaction_when_time_is_plenty():
    found, left_out = split(uniform(100), 3600)
    assert [len(each.updates) for each in found] == [100]
    assert left_out == ()


def test_several_when_time_is_scarce_and_more_of_them_near_the_end():
    found, left_out = split(uniform(200), 600)
    assert [len(each.updates) for each in found] == [92, 59, 37, 12]
    assert left_out == ()


def test_three_hundred_at_most_even_when_time_is_plenty():
    assert [len(each.updates) for each in split(uniform(650), 86_400)[0]] == [300, 300, 50]


def test_a_group_larger_than_that_stays_whole():
    crowd = [an_update(f"p{number}", group="g") for number in range(MAX_TRANSACTION_UPDATES + 1)]
    assert [len(each.updates) for each in split([*crowd, an_update("z")], 86_400)[0]] == [
        MAX_TRANSACTION_UPDATES + 1,
        1,
    ]


def test_security_first_and_what_boots_last():
    other = an_update("vim", classification=Classification.OTHER)
    security, critical = an_update("openssl"), an_update("libc6", classification=Classification.CRITICAL)
    kernel = an_update("linux-image-amd64", changes_boot=True, classification=Classification.CRITICAL)
    rebooter = an_update("dbus", requires_reboot=True)
    found, _ = split([kernel, other, rebooter, security, critical], 600, one_by_one=True)
    assert [each.updates[0].name for each in found] == ["libc6", "openssl", "vim", "linux-image-amd64", "dbus"]


def test_the_package_manager_itself_comes_first_and_apart():
    kernel = an_update("kernel", requires_reboot=True)
    solver = an_update("solver", updates_manager=True)
    tool = an_update("tool", updates_manager=True, requires_reboot=True)
    urgent = an_update("urgent", classification=Classification.CRITICAL)
    found, left_out = split([kernel, urgent, solver, tool], 10**6)
    assert [[update.name for update in each.updates] for each in found] == [["solver", "tool"], ["urgent", "kernel"]]
    assert left_out == ()


def test_an_ordinary_update_of_the_package_manager_displaces_no_urgent_one():
    tool = an_update("tool", updates_manager=True, classification=Classification.OTHER)
    urgent = an_update("urgent", classification=Classification.CRITICAL)
    assert [names(each) for each in split([tool, urgent], 40)[0]] == [["tool"], ["urgent"]]
    assert [names(each) for each in split([tool, urgent], 30)[0]] == [["urgent"]]
    needed = replace(tool, classification=Classification.SECURITY)
    assert [names(each) for each in split([needed, urgent], 30)[0]] == [["tool"]]


@given(many, st.sets(st.integers(0, 11)), rates, st.floats(0, 2000), st.booleans())
def test_no_urgent_update_is_left_out_for_an_ordinary_one_of_the_package_manager(
    updates, managers, speed, left, single
):
    updates = [replace(each, updates_manager=number in managers) for number, each in enumerate(updates)]
    plain = [replace(each, updates_manager=each.updates_manager and each.classification.is_urgent) for each in updates]
    left_out, at_best = (
        sum(result.update.classification.is_urgent for result in split(each, left, speed, one_by_one=single)[1])
        for each in (updates, plain)
    )
    assert left_out <= at_best


def test_what_does_not_fit_says_why_and_smaller_ones_still_go():
    crowd = [an_update(f"p{number}", group="g") for number in range(50)]
    small = an_update("vim", classification=Classification.OTHER)
    found, left_out = split([*crowd, small], 60, zone="Europe/Berlin", cut_off_reason="window ends 02:16 CET")
    assert [update.name for update in found[0].updates] == ["vim"]
    assert len(left_out) == 50
    assert left_out[0].reason == (
        "no time left: install of p0 and the 49 that go with it needs about 1 min 55 s; "
        "1 min are left until 02:01 CET (window ends 02:16 CET)"
    )


def test_a_later_one_says_that_others_go_before_it():
    _, left_out = split(uniform(3), 40, one_by_one=True)
    assert left_out[0].reason == (
        "no time left: install of p002 needs about 17 s; 6 s are left until 01:00:40 UTC, "
        "once the updates before it are installed"
    )


def test_the_latest_start_is_told_in_the_machines_clock():
    ours = split(uniform(1), 600)[0][0].latest_start
    assert ours == NOW.timestamp() + 600 - 17
    assert split(uniform(1), 600, skew_seconds=30)[0][0].latest_start == ours + 30


def test_what_was_learned_betters_the_defaults():
    learned = {"install_seconds_per_update": 0.5, "reboot_seconds": 42.0}
    found = learn_rates(APT, learned.get)
    assert (found.install_seconds_per_update, found.reboot_seconds, found.transaction_seconds) == (0.5, 42.0, 15.0)
    assert found.basis == "defaults; learned: install_seconds_per_update, reboot_seconds"
    assert learn_rates(APT, lambda _: 7.0).basis == "learned"


@pytest.mark.parametrize("nonsense", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_figures_that_make_no_sense_are_not_learned(nonsense):
    assert learn_rates(APT, lambda _: nonsense) is APT


@pytest.mark.parametrize(
    ("answer", "policy", "count", "reboots"),
    [
        (YesNoUnknown.YES, RebootPolicy.IF_REQUIRED, 0, True),
        (YesNoUnknown.UNKNOWN, RebootPolicy.IF_REQUIRED, 3, True),
        (YesNoUnknown.UNKNOWN, RebootPolicy.IF_REQUIRED, 0, False),
        (YesNoUnknown.NO, RebootPolicy.IF_REQUIRED, 3, False),
        (YesNoUnknown.NO, RebootPolicy.ALWAYS, 0, True),
        (YesNoUnknown.YES, RebootPolicy.NEVER, 3, False),
    ],
)
def test_predicting_the_reboot(answer, policy, count, reboots):
    assert predict_durations(uniform(count), APT, answer, policy).reboot == (300.0 if reboots else 0.0)


def test_a_prediction_adds_up():
    found = predict_durations(uniform(10), APT, YesNoUnknown.NO, RebootPolicy.NEVER, download_bytes=5_000_000)
    assert (found.stage, found.install, found.reboot, found.validate) == (5.0, 35.0, 0.0, 30.0)
    assert found.total_seconds == 70.0
    assert predict_durations([], APT, YesNoUnknown.NO, RebootPolicy.IF_REQUIRED).total_seconds == 0.0


def test_unknown_sizes_count_as_the_mean_of_the_known():
    sized = [an_update("a", size_bytes=1_000_000), an_update("b", size_bytes=3_000_000), an_update("c")]
    assert predict_durations(sized, APT, YesNoUnknown.NO, RebootPolicy.NEVER).stage == 6.0
    assert predict_durations([an_update("c")], APT, YesNoUnknown.NO, RebootPolicy.NEVER).stage > 1.0


def test_whether_a_reboot_is_to_be_expected():
    no, unknown = RebootNeed(YesNoUnknown.NO), RebootNeed(YesNoUnknown.UNKNOWN)
    assert predict_reboot_need([an_update(requires_reboot=False)], no) is YesNoUnknown.NO
    assert predict_reboot_need([an_update(requires_reboot=False)], unknown) is YesNoUnknown.UNKNOWN
    assert predict_reboot_need([an_update()], no) is YesNoUnknown.UNKNOWN
    assert predict_reboot_need([an_update("kernel", changes_boot=True)], no) is YesNoUnknown.YES
    assert predict_reboot_need([an_update(requires_reboot=True)], no) is YesNoUnknown.YES
    assert predict_reboot_need([], RebootNeed(YesNoUnknown.YES)) is YesNoUnknown.YES


@pytest.mark.parametrize("booted", [True, False])
def test_what_is_booted_from_is_installed_last(booted):
    assert must_install_last(an_update(requires_reboot=False, changes_boot=booted)) is booted


def test_urgency():
    order = [Classification.CRITICAL, Classification.SECURITY_ESM, Classification.OTHER]
    assert [rank_urgency(an_update(classification=each)) for each in order] == [0, 1, 2]
