"""Finding out which updates apt refuses, with an apt made of rules."""

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from tasks.managers.apt.output_parsers import build_simulation_answer
from tasks.managers.simulation import MAX_SIMULATIONS, SimulationAnswer, simulate_installation
from tasks.model import Update
from tests.support.builders import make_update
from tests.unit.managers.recordings import section


class RuleApt:
    """Refuses any set for which a rule holds; counts how often it is asked."""

    def __init__(self, refuses: Callable[[frozenset[str]], str]) -> None:
        self.refuses = refuses
        self.asked = 0

    def __call__(self, wanted: Sequence[Update], *, downloads: bool) -> SimulationAnswer:
        self.asked += 1
        if error := self.refuses(frozenset(update.id for update in wanted)):
            return build_simulation_answer(error, None)
        changes = {update.id: update.available for update in wanted}
        return SimulationAnswer(changes, downloads={"f_1": 10, "g_1": 5} if downloads else None)


def updates(*ids: str, group: str = "") -> tuple[Update, ...]:
    return tuple(make_update(id=name, name=name, installed="1", available="2", group=group or name) for name in ids)


def bad(*culprits: str) -> Callable[[frozenset[str]], str]:
    return lambda ids: "E: Unable to correct problems.\n" if ids & set(culprits) else ""


def test_a_set_that_apt_agrees_to_costs_one_simulation() -> None:
    apt = RuleApt(bad())
    rehearsal = simulate_installation(updates("a", "b"), apt)
    assert rehearsal.changes == {"a": "2", "b": "2"}
    assert rehearsal.refused is None
    assert (rehearsal.download_bytes, rehearsal.download_count) == (15, 2)
    assert apt.asked == 1


def test_nothing_asks_nobody() -> None:
    apt = RuleApt(bad())
    assert simulate_installation((), apt).changes == {}
    assert apt.asked == 0


def test_one_bad_update_does_not_sink_the_others() -> None:
    apt = RuleApt(bad("p17"))
    rehearsal = simulate_installation(updates(*(f"p{n}" for n in range(64))), apt)
    assert set(rehearsal.refused or {}) == {"p17"}
    assert len(rehearsal.changes) == 63
    assert apt.asked <= 2 + 2 * 7


def test_whom_apt_names_is_asked_about_last() -> None:
    conflict = section("debian-12-conflict.apt_rehearse", "simulation")
    apt = RuleApt(lambda ids: conflict if ids >= {"lab-plain", "lab-removes"} else "")
    rehearsal = simulate_installation(updates("lab-removes", "lab-plain", *"abcdefgh"), apt)
    assert rehearsal.refused == {"lab-removes": "lab-removes: Conflicts: lab-plain but 2.0 is to be installed"}
    assert apt.asked == 4


def test_what_apt_does_not_know_any_more_is_left_out() -> None:
    unknown = section("debian-12-unknown.apt_rehearse", "simulation")
    apt = RuleApt(lambda ids: unknown if ids & {"lab-plain", "nosuch"} else "")
    rehearsal = simulate_installation(updates("lab-plain", "nosuch", "a"), apt)
    assert set(rehearsal.refused or {}) == {"lab-plain", "nosuch"}
    assert rehearsal.changes == {"a": "2"}
    assert apt.asked == 3


def test_a_group_is_refused_as_one() -> None:
    apt = RuleApt(bad("libssl3"))
    rehearsal = simulate_installation((*updates("openssl", "libssl3", group="openssl"), *updates("a")), apt)
    assert set(rehearsal.refused or {}) == {"openssl", "libssl3"}
    assert rehearsal.changes == {"a": "2"}


def test_all_refused() -> None:
    rehearsal = simulate_installation(updates("a", "b"), RuleApt(lambda _: "E: nothing today\n"))
    assert rehearsal.refused == {"a": "nothing today", "b": "nothing today"}
    assert rehearsal.changes == {}


def test_the_work_is_bounded() -> None:
    apt = RuleApt(lambda ids: "E: x\n" if len(ids) > 0 else "")
    rehearsal = simulate_installation(updates(*(f"p{n}" for n in range(500))), apt)
    assert apt.asked <= MAX_SIMULATIONS + 2
    assert len(rehearsal.refused or {}) == 500


NAMES = [f"p{n}" for n in range(12)]


@given(st.sets(st.sampled_from(NAMES)), st.lists(st.sets(st.sampled_from(NAMES), min_size=2, max_size=2), max_size=4))
def test_what_is_kept_fits_and_what_is_refused_does_not(culprits: set[str], pairs: list[set[str]]) -> None:
    def refuses(ids: frozenset[str]) -> str:
        return "E: no\n" if ids & culprits or any(pair <= ids for pair in pairs) else ""

    rehearsal = simulate_installation(updates(*NAMES), RuleApt(refuses))
    kept, refused = frozenset(rehearsal.changes), set(rehearsal.refused or {})
    assert kept | refused == set(NAMES)
    assert not kept & refused
    assert not refuses(kept)
    assert all(refuses(kept | {name}) for name in refused)
