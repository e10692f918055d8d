"""The rules of components, by properties: what comes by itself, in what order, how many at once, and when again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.machine import OsFamily
from tasks.domain.components import ComponentStanding, ComponentVersion, InstalledComponent
from tasks.rules.components.choice import build_component_update, choose_version
from tasks.rules.components.health import (
    HealthAnswer,
    HealthWatch,
    exceeds_percent,
    explain_unhealthy_scope,
    explain_unhealthy_upgraded,
)
from tasks.rules.components.order import find_circle, find_prerequisite, order_components
from tasks.rules.components.retries import FIRST_DELAY, LONGEST_DELAY, compute_delay, find_retry_wait
from tasks.rules.components.versions import is_minor_upgrade, rank_version
from tests.support.builders import START, at
from tests.support.components import make_component, make_try, make_versions

numbers = st.lists(st.integers(0, 30), min_size=1, max_size=4)
versions = st.builds(
    lambda parts, suffix: ".".join(map(str, parts)) + suffix,
    numbers,
    st.sampled_from(("", "", "-rc1", "-1", "+build2", "~beta3", "-2+deb12u1")),
)


def rank(text):
    ranked = rank_version(text)
    assert ranked is not None
    return ranked


class TestVersions:
    @pytest.mark.parametrize(
        ("older", "newer"),
        [
            ("1.2.9", "1.2.10"),
            ("1.9", "1.10"),
            ("1.0.0-rc1", "1.0.0"),
            ("1.0.0-rc2", "1.0.0-rc10"),
            ("1.0~beta", "1.0"),
            ("1.0-1", "1.0-2"),
            ("1.0", "1.0-1"),
            ("9.9", "1:0.1"),
            ("v1.2", "v1.3"),
        ],
    )
    def test_known_pairs(self, older, newer):
        assert rank(older) < rank(newer)
        assert not rank(newer) < rank(older)

    @pytest.mark.parametrize(
        "text", ["", "latest", "1..2", "1.2 ", "1.2\n", "../1.2", "1.2;id", "9" * 101, "1.2.x\x00"]
    )
    def test_what_is_no_version(self, text):
        assert rank_version(text) is None

    @pytest.mark.parametrize(("one", "other"), [("1.2", "1.2.0"), ("v1.2", "1.2"), ("1.02", "1.2"), ("0", "0.0")])
    def test_two_texts_of_a_version(self, one, other):
        assert rank(one) == rank(other)
        assert hash(rank(one)) == hash(rank(other))

    @given(versions, versions, versions)
    def test_the_order_is_total(self, first, second, third):
        one, two, three = rank(first), rank(second), rank(third)
        assert (one < two) + (two < one) + (one == two) == 1
        if one <= two <= three:
            assert one <= three

    @given(versions, versions)
    def test_only_minor_versions_come_by_themselves(self, installed, offered):
        if is_minor_upgrade(rank(installed), rank(offered)):
            assert rank(installed) < rank(offered)
            assert (
                installed.split(".")[0].split("-")[0].split("~")[0].split("+")[0]
                == offered.split(".")[0].split("-")[0].split("~")[0].split("+")[0]
            )
            assert "rc" not in offered
            assert "beta" not in offered


def choose(component, version, tries=(), wanted="", family=OsFamily.LINUX, now=START):
    installed = InstalledComponent(component.name, version)
    return choose_version(component, installed, family, tries, "web-1", now, wanted)


class TestChoice:
    @given(st.lists(versions, min_size=1, max_size=8), versions)
    def test_what_comes_by_itself(self, listed, installed):
        component = make_component("exporter", *listed)
        choice = choose(component, installed)
        assert choice == choose(component, installed)
        minor = [one for one in listed if is_minor_upgrade(rank(installed), rank(one))]
        if choice.target is not None:
            assert choice.standing is ComponentStanding.PENDING
            assert rank(choice.target.version) == max(map(rank, minor))
            assert choice.installed is not None
            assert rank(choice.installed.version) == rank(installed)
            update = build_component_update(component, choice)
            assert update is not None
            assert (update.installed, update.available) == (choice.installed.version, choice.target.version)
        else:
            assert choice.standing is not ComponentStanding.PENDING
            assert not minor or not any(rank(one) == rank(installed) for one in listed)

    def test_a_major_version_waits_for_a_person(self):
        component = make_component("exporter", "1.0.0", "2.0.0")
        assert choose(component, "1.0.0").standing is ComponentStanding.MAJOR_AVAILABLE
        ordered = choose(component, "1.0.0", wanted="2.0.0")
        assert ordered.target == component.versions[1]

    @pytest.mark.parametrize(
        ("version", "wanted", "standing", "words"),
        [
            ("1.1.0", "", ComponentStanding.CURRENT, ""),
            ("1.0.5", "", ComponentStanding.UNLISTED, "could not be put back"),
            ("1.1.5", "", ComponentStanding.UNLISTED, "could not be put back"),  # newer than all that the file has
            ("1.0.5", "1.1.0", ComponentStanding.UNLISTED, "could not be put back"),
            ("1.0.0", "1.0.9", ComponentStanding.CURRENT, "not in the file"),
            ("1.0.0", "1.0.0", ComponentStanding.CURRENT, ""),
            ("weird; rm -rf /", "", ComponentStanding.UNKNOWN, "can't be compared"),
            (None, "", ComponentStanding.NOT_INSTALLED, "not installed"),
        ],
    )
    def test_what_gets_nothing(self, version, wanted, standing, words):
        choice = choose(make_component(), version, wanted=wanted)
        assert (choice.standing, choice.target) == (standing, None)
        assert words in choice.reason

    def test_a_version_that_was_removed_from_the_file_is_not_current(self):
        kept = ComponentVersion("1.2.0", is_kept=True)  # the journal of the run that installed it still has it
        choice = choose(make_component(versions=(kept, *make_versions("1.0.0", "1.1.0"))), "1.2.0")
        assert (choice.standing, choice.target) == (ComponentStanding.UNLISTED, None)

    def test_what_is_not_known_is_not_current(self):
        component = make_component()
        unread = InstalledComponent("exporter", None, "exit code 127: not found")
        for said in (None, unread):
            assert choose_version(component, said, None, (), "web-1", START).standing is ComponentStanding.UNKNOWN

    def test_a_component_of_another_system(self):
        assert choose(make_component(), None, family=OsFamily.WINDOWS).standing is ComponentStanding.NOT_SUPPORTED

    def test_a_withdrawn_version_is_given_to_nobody(self):
        listed = make_versions("1.0.0", "1.0.1", "1.0.2")
        withdrawn = type(listed[2])("1.0.2", withdrawn="it loses data")
        component = make_component(versions=(*listed[:2], withdrawn))
        assert choose(component, "1.0.0").target == listed[1]
        assert "loses data" in choose(component, "1.0.0", wanted="1.0.2").reason

    def test_what_failed_waits_and_a_newer_version_does_not(self):
        failed = (make_try(),)
        waiting = choose(make_component(), "1.0.0", failed, now=at(60))
        assert (waiting.standing, waiting.not_before) == (ComponentStanding.RETRY_LATER, START + FIRST_DELAY)
        assert choose(make_component(), "1.0.0", failed, now=START + FIRST_DELAY).target is not None
        assert choose(make_component(), "1.0.0", failed, wanted="1.1.0", now=at(60)).target is not None
        newer = make_component("exporter", "1.0.0", "1.1.0", "1.1.1")
        assert choose(newer, "1.0.0", failed, now=at(60)).target == newer.versions[2]


@st.composite
def chains(draw):
    """Components in which each one may name earlier ones, so that there is no circle, in any order."""
    names = [f"c{number}" for number in range(draw(st.integers(0, 8)))]
    made = []
    for place, name in enumerate(names):
        earlier = draw(st.lists(st.sampled_from([*names[:place], "elsewhere"]), max_size=3, unique=True))
        made.append(make_component(name, after=tuple(earlier)))
    return draw(st.permutations(made))


class TestOrder:
    @given(chains())
    def test_each_comes_after_those_that_it_names(self, components):
        ordered = order_components(components)
        places = {component.name: place for place, component in enumerate(ordered)}
        assert sorted(places) == sorted(component.name for component in components)
        for component in components:
            assert all(places[name] < places[component.name] for name in component.after if name in places)
        assert find_circle({component.name: component.after for component in components}) is None

    @given(st.integers(1, 6))
    def test_a_circle_is_told(self, length):
        names = [f"c{number}" for number in range(length)]
        after = {name: (names[(place + 1) % length],) for place, name in enumerate(names)}
        circle = find_circle(after)
        assert circle is not None
        assert set(circle.names) == set(names)
        assert circle.names[0] == circle.names[-1]
        assert all(later in after[name] for name, later in zip(circle.names, circle.names[1:], strict=False))
        with pytest.raises(ValueError, match="wait for each other"):
            order_components(make_component(name, after=after[name]) for name in names)

    @pytest.mark.parametrize("standing", [*ComponentStanding, None])
    def test_dependants_wait_for_what_is_not_there_yet(self, standing):
        component = make_component("app", after=("agent",))
        standings = {} if standing is None else {"agent": standing}
        waits = standing in {ComponentStanding.PENDING, ComponentStanding.RETRY_LATER, ComponentStanding.UNKNOWN}
        assert find_prerequisite(component, standings) == ("agent" if waits else "")


class TestLimits:
    @given(st.integers(0, 1000), st.integers(1, 1000))
    def test_exactly_a_fifth_may_be_unhealthy(self, count, total):
        assert exceeds_percent(count, total, 20) == (count * 5 > total)

    @given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
    def test_only_upgraded_machines_count_as_upgraded(self, good, bad, refused):
        made = [make_try(succeeded=True)] * good + [make_try()] * bad + [make_try(was_refused=True)] * refused
        reason = explain_unhealthy_upgraded(made)
        assert bool(reason) == (bad * 5 > good + bad)
        assert not reason or f"{bad} of {good + bad} upgraded machines" in reason

    def test_the_words(self):
        assert explain_unhealthy_scope(("a",), 5) == ""
        assert "2 of 6" in explain_unhealthy_scope(("a", "b"), 6)
        assert explain_unhealthy_upgraded(()) == ""


answers = st.lists(
    st.builds(HealthAnswer, st.integers(0, 700).map(at), st.sampled_from((True, False, None))), max_size=6
).map(lambda made: sorted(made, key=lambda answer: answer.at))


class TestHealth:
    @given(answers, st.integers(0, 1500), st.sampled_from((0, 60, 300)))
    def test_health_is_a_good_answer_in_time_that_stays_good_for_the_soak(self, given_answers, seconds, soak):
        watch, now = HealthWatch(START, 300, soak), at(seconds)
        verdict = watch.judge(given_answers, now)
        bad = [answer.at for answer in given_answers if answer.is_healthy is False]
        row = [answer for answer in given_answers if answer.is_healthy and (not bad or answer.at > bad[-1])]
        began = row[0].at if row else None
        if verdict:
            assert given_answers[-1].is_healthy
            assert began is not None
            assert began <= at(300)
            assert given_answers[-1].at >= began + timedelta(seconds=soak)
        if verdict is False:
            assert now >= at(300)
        assert watch.judge(given_answers, at(300 + soak + 300 + 700)) is not None  # every watch ends

    @given(answers, st.integers(0, 800))
    def test_the_next_look_is_in_the_soak_of_what_is_good(self, given_answers, seconds):
        watch, now = HealthWatch(START, 300, 120), at(max(seconds, 700))
        look = watch.find_next_look(given_answers, now)
        if look is not None:
            assert now <= look <= now + timedelta(seconds=120)
            assert given_answers[-1].is_healthy

    def test_once_good_is_not_still_good(self):
        watch = HealthWatch(START, 60, 300)
        good, bad = HealthAnswer(at(5), is_healthy=True), HealthAnswer(at(80), is_healthy=False, problem="it is down")
        assert watch.judge([good], at(5)) is None
        assert watch.judge([good, bad], at(80)) is False
        assert watch.explain([good, bad]) == "no longer healthy 1 min 15 s after it was: it is down"
        assert watch.judge([good, HealthAnswer(at(305), is_healthy=True)], at(305)) is True

    def test_a_bad_answer_in_time_begins_the_soak_again(self):
        watch = HealthWatch(START, 60, 300)
        begun = [
            HealthAnswer(at(5), is_healthy=True),
            HealthAnswer(at(15), is_healthy=False),
            HealthAnswer(at(25), is_healthy=True),
        ]
        assert watch.judge([*begun, HealthAnswer(at(310), is_healthy=True)], at(310)) is None
        assert watch.judge([*begun, HealthAnswer(at(325), is_healthy=True)], at(325)) is True

    def test_good_answers_that_come_too_late_do_not_hide_the_fault(self):
        watch = HealthWatch(START, 6, 6)
        loops = [HealthAnswer(at(second), is_healthy=second % 3 > 0, problem="it ended") for second in (1, 3, 4, 6, 7)]
        assert watch.judge(loops, at(7)) is False
        assert watch.explain(loops) == "no longer healthy 5 s after it was: it ended"

    def test_a_machine_that_is_lost_in_its_soak_is_unhealthy(self):
        watch = HealthWatch(START, 60, 300)
        lost = [HealthAnswer(at(5), is_healthy=True), HealthAnswer(at(305), None, "no answer")]
        assert watch.judge(lost, at(305)) is None
        assert watch.judge(lost, at(365)) is False
        assert watch.explain(lost) == "its health was no longer known 5 min after it was: no answer"

    def test_unknown_at_the_end_is_unhealthy(self):
        watch = HealthWatch(START, 300, 300)
        unknown = [HealthAnswer(at(290), None, "no answer in 5 s")]
        assert watch.judge(unknown, at(300)) is False
        assert watch.explain(unknown) == "its health was not known in 5 minutes: no answer in 5 s"
        assert watch.judge([], at(300)) is False
        assert "nothing was known" in watch.explain([])


tries = st.lists(
    st.builds(
        make_try,
        machine=st.sampled_from(("web-1", "web-2", "web-3")),
        run_id=st.sampled_from(("run-1", "run-2", "run-3")),
        at=st.integers(0, 40).map(lambda days: START + timedelta(days=days)),
        succeeded=st.booleans(),
    ),
    max_size=8,
)


class TestRetries:
    @given(st.integers(1, 1000))
    def test_delays_grow_up_to_a_week(self, failures):
        assert FIRST_DELAY <= compute_delay(failures) <= LONGEST_DELAY
        assert compute_delay(failures) <= compute_delay(failures + 1)

    @given(tries, st.integers(0, 60))
    def test_every_wait_ends(self, made, days):
        now = START + timedelta(days=days)
        wait = find_retry_wait(made, "web-1", now)
        assert wait == find_retry_wait(list(reversed(made)), "web-1", now) or len({one.at for one in made}) < len(made)
        if wait is not None:
            assert now < wait.until <= now + LONGEST_DELAY
        assert find_retry_wait(made, "web-1", START + timedelta(days=60)) is None

    @given(tries)
    def test_what_has_not_failed_does_not_wait(self, made):
        good = [one for one in made if one.succeeded]
        assert find_retry_wait(good, "web-1", START) is None

    def test_a_stopped_run_makes_all_machines_wait(self):
        stopped = [make_try("web-2"), make_try("web-3", succeeded=True)]
        wait = find_retry_wait(stopped, "web-1", at(60))
        assert wait is not None
        assert "stopped once, last in run run-1" in wait.reason

    def test_a_machine_whose_order_was_refused_waits_alone(self):
        refused = [make_try("web-2", was_refused=True)]
        assert find_retry_wait(refused, "web-1", at(60)) is None
        assert find_retry_wait(refused, "web-2", at(60)) is not None

    def test_one_failure_of_many_lets_the_others_go_on(self):
        run = [make_try(f"web-{number}", succeeded=number != 9) for number in range(1, 10)]
        assert find_retry_wait(run, "web-1", at(60)) is None
        wait = find_retry_wait(run, "web-9", at(60))
        assert wait is not None
        assert "failed here once" in wait.reason

    def test_failures_in_a_row_wait_longer_and_a_success_ends_them(self):
        day = timedelta(days=1)
        failures = [make_try(run_id=f"run-{number}", at=START + number * 8 * day) for number in range(3)]
        wait = find_retry_wait(failures, "web-1", START + 16 * day)
        assert wait is not None
        assert wait.until == START + 20 * day
        good = make_try(run_id="run-9", at=START + 17 * day, succeeded=True)
        assert find_retry_wait([*failures, good], "web-1", START + 17 * day) is None

    def test_a_clock_that_was_set_back_never_shortens_a_wait(self):
        later = [make_try(at=START + timedelta(days=30))]
        wait = find_retry_wait(later, "web-1", START)
        assert wait is not None
        assert wait.until == START + FIRST_DELAY
