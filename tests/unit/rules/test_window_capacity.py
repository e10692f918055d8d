"""Whether all machines of a run fit into its window: against a simple bound, and with more of everything."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from tasks.rules.timing.window_capacity import (
    MAX_AT_ONCE,
    MachineDuration,
    PatchWork,
    TurnLimit,
    WindowCapacity,
    estimate_capacity,
)

HOURS_2 = 7200.0


def uniform(count: int, seconds: float = 360.0, wave: int = 100_000) -> PatchWork:
    names = [f"m{number}" for number in range(count)]
    waves = tuple(tuple(names[begin : begin + wave]) for begin in range(0, count, wave))
    return PatchWork(waves, dict.fromkeys(names, MachineDuration(seconds, seconds)))


turns = st.builds(
    lambda install, rest, reserve: MachineDuration(install, install + rest, reserve),
    st.integers(1, 3000),
    st.integers(0, 1500),
    st.integers(0, 1800),
)


@st.composite
def works(draw: st.DrawFn) -> PatchWork:
    names = [f"m{number}" for number in range(draw(st.integers(1, 40)))]
    size = draw(st.integers(1, 40))
    waves = tuple(tuple(names[begin : begin + size]) for begin in range(0, len(names), size))
    members = tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=8)))
    limits = (TurnLimit(members, draw(st.integers(1, 4))),) if members else ()
    return PatchWork(waves, {name: draw(turns) for name in names}, limits, draw(st.sampled_from([0.0, 600.0])))


at_once = st.integers(1, 50)
seconds = st.integers(600, 20_000)


def test_twenty_at_once_in_two_hours_are_four_hundred_machines_of_six_minutes() -> None:
    assert estimate_capacity(uniform(400), HOURS_2, 20) == WindowCapacity(400, 400, 20, 120)
    assert estimate_capacity(uniform(401), HOURS_2, 20) == WindowCapacity(401, 400, 21, 130)
    assert estimate_capacity(uniform(5_000), HOURS_2, 20) == WindowCapacity(5_000, 400, 250, 1_500)


def test_the_time_kept_for_a_reboot_is_left_out() -> None:
    work = uniform(400)
    kept = replace(work, turns={name: replace(turn, reserve_seconds=900.0) for name, turn in work.turns.items()})
    assert estimate_capacity(kept, HOURS_2, 20).fitting == 340


def test_waves_wait_for_their_slowest_machine_and_for_the_pause() -> None:
    work = replace(uniform(4, wave=2), pause_seconds=600.0)
    assert estimate_capacity(work, 1320.0, 50) == WindowCapacity(4, 4, 50, 25)
    assert estimate_capacity(work, 1319.0, 50) == WindowCapacity(4, 2, None, 25)


def test_members_of_a_set_take_turns_whatever_number_is_allowed_at_once() -> None:
    work = replace(uniform(10), limits=(TurnLimit(tuple(f"m{number}" for number in range(10)), 2),))
    assert estimate_capacity(work, 1800.0, 10) == WindowCapacity(10, 10, 10, 30)
    assert estimate_capacity(work, 1799.0, 10) == WindowCapacity(10, 8, None, 30)


def test_no_machines_fit() -> None:
    assert estimate_capacity(PatchWork((), {}), HOURS_2, 20).fits


@given(works(), seconds, at_once)
@example(uniform(41, wave=20), HOURS_2 / 10, 20)
def test_it_never_fits_where_a_simple_bound_says_that_it_can_not(work: PatchWork, window: float, number: int) -> None:
    """The last machine begins after so many rounds of the shortest turn; in a set the same holds of its members."""
    shortest = min(turn.total_seconds for turn in work.turns.values())
    groups = [(len(work.turns), number), *((len(limit.members), limit.at_once) for limit in work.limits)]
    least = min(turn.install_seconds + turn.reserve_seconds for turn in work.turns.values())
    cannot = any(((count - 1) // places) * shortest + least > window for count, places in groups)
    largest = max(turn.install_seconds + turn.reserve_seconds for turn in work.turns.values())
    assert not (estimate_capacity(work, window, number).fits and (cannot or largest > window))


@given(works(), seconds, at_once)
def test_more_machines_never_fit_better(work: PatchWork, window: float, number: int) -> None:
    *earlier, last = work.waves
    fewer = replace(
        work,
        waves=(*earlier, last[:-1]) if len(last) > 1 else tuple(earlier),
        turns={name: turn for name, turn in work.turns.items() if name != last[-1]},
        limits=tuple(
            replace(limit, members=members)
            for limit in work.limits
            if (members := tuple(name for name in limit.members if name != last[-1]))
        ),
    )
    before, after = (estimate_capacity(each, window, number) for each in (fewer, work))
    assert before.fits or not after.fits
    assert before.needed_minutes <= after.needed_minutes


@given(works(), seconds, at_once, st.integers(1, 10), st.integers(1, 3600))
def test_more_at_once_and_more_minutes_never_fit_worse(
    work: PatchWork, window: float, number: int, more: int, longer: int
) -> None:
    found = estimate_capacity(work, window, number)
    wider, stretched = estimate_capacity(work, window, number + more), estimate_capacity(work, window + longer, number)
    assert wider.fitting >= found.fitting
    assert wider.needed_minutes <= found.needed_minutes
    assert stretched.fitting >= found.fitting


@given(works(), seconds, at_once)
def test_the_numbers_that_it_names_are_enough_and_no_smaller_number_is(
    work: PatchWork, window: float, number: int
) -> None:
    found = estimate_capacity(work, window, number)
    assert estimate_capacity(work, found.needed_minutes * 60, number).fits
    assert not estimate_capacity(work, (found.needed_minutes - 5) * 60 - 1, number).fits
    if found.needed_at_once is None:
        assert not estimate_capacity(work, window, MAX_AT_ONCE).fits
    elif not found.fits:
        assert estimate_capacity(work, window, found.needed_at_once).fits
        assert not estimate_capacity(work, window, found.needed_at_once - 1).fits
