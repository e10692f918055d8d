"""At 12 moments of a run, whatever happens: files, artifacts, states and messages agree with the records at the end."""

import json
from contextlib import ExitStack

import pytest

from tests.faults.ends import DATA, END_MUTANTS, MOMENTS, Play, list_plays, play_all, summarize_publishers


def test_what_people_see_of_an_end_agrees_with_the_records() -> None:
    worlds = play_all(list_plays())

    assert {played: world.complaints for played, world in worlds.items() if world.complaints} == {}
    assert len(MOMENTS) == 12
    assert summarize_publishers(worlds) == json.loads(DATA.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", END_MUTANTS)
def test_an_end_without_its_guard_is_seen(name: str) -> None:
    seen, broken = END_MUTANTS[name]
    plays = [Play(moment, fault, "Prefect") for moment in ("validating", "the end is recorded") for fault in _FAULTS]

    with ExitStack() as stack:
        broken(stack)
        worlds = play_all(plays)

    complaints = [complaint for world in worlds.values() for complaint in world.complaints]
    assert any(seen in complaint for complaint in complaints), complaints


_FAULTS = ("stopped for 4 minutes", "kill -9")
