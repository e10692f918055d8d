"""Since when a machine lacks a fix, and when it had it."""

from datetime import UTC, datetime, timedelta

from tasks.rules.compliance.figures import find_fixes
from tasks.rules.compliance.model import Fix, Installation, PendingFix, Sight

START = datetime(2026, 11, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def sight(at: float, *pending: str, machine: str = "web-1") -> Sight:
    """A sight: "openssl 2" is version 2 of openssl."""
    parts = [each.split() for each in pending]
    return Sight(machine, day(at), tuple(PendingFix(name, version, "security") for name, version in parts))


def installed(at: float, what: str, machine: str = "web-1") -> Installation:
    name, version = what.split()
    return Installation(machine, name, version, day(at))


def only(fixes: tuple[Fix, ...]) -> Fix:
    (fix,) = fixes
    return fix


def test_a_run_installs_it() -> None:
    fix = only(find_fixes([sight(-1), sight(2, "ssl 2"), sight(6)], [installed(5, "ssl 2")], {}, START))
    assert (fix.known_at, fix.ended_at, fix.installed_by_run) == (day(2), day(5), True)


def test_somebody_else_installs_it() -> None:
    fix = only(find_fixes([sight(-1), sight(2, "ssl 2"), sight(6)], [], {}, START))
    assert (fix.ended_at, fix.installed_by_run) == (day(6), False)


def test_it_is_still_missing() -> None:
    fix = only(find_fixes([sight(2, "ssl 2"), sight(6, "ssl 2")], [], {}, START))
    assert fix.ended_at is None
    assert fix.is_missing_at(day(7))
    assert not fix.is_missing_at(day(2))


def test_the_last_sight_is_older_than_the_installation() -> None:
    fix = only(find_fixes([sight(2, "ssl 2")], [installed(3, "ssl 2")], {}, START))
    assert fix.ended_at == day(3)


def test_a_newer_version_does_not_begin_a_new_time() -> None:
    fix = only(find_fixes([sight(2, "ssl 2"), sight(6, "ssl 3")], [installed(8, "ssl 3")], {}, START))
    assert (fix.known_at, fix.version, fix.ended_at) == (day(2), "3", day(8))


def test_what_is_pending_after_an_installation_is_a_new_fix() -> None:
    sights = [sight(2, "ssl 2"), sight(6, "ssl 3")]
    first, second = find_fixes(sights, [installed(5, "ssl 2")], {}, START)
    assert (first.known_at, first.ended_at) == (day(2), day(5))
    assert (second.known_at, second.ended_at, second.version) == (day(6), None, "3")


def test_an_installation_that_did_not_help_ends_nothing() -> None:
    fix = only(find_fixes([sight(2, "ssl 2"), sight(6, "ssl 2")], [installed(5, "ssl 2")], {}, START))
    assert fix.ended_at is None


def test_it_is_known_since_any_machine_showed_it() -> None:
    sights = [sight(2, "ssl 2", machine="a"), sight(9, "ssl 2", machine="b")]
    assert [fix.known_at for fix in find_fixes(sights, [], {}, START)] == [day(2), day(2)]


def test_its_stored_publication_counts() -> None:
    fix = only(find_fixes([sight(4, "ssl 2")], [], {("ssl", "2"): day(1)}, START))
    assert (fix.known_at, fix.known_at_least) == (day(1), False)


def test_what_was_there_before_has_an_age_of_at_least() -> None:
    fix = only(find_fixes([sight(-3, "ssl 2"), sight(4, "ssl 2")], [], {}, START))
    assert (fix.known_at, fix.known_at_least) == (day(-3), True)
    stored = only(find_fixes([sight(-3, "ssl 2")], [], {("ssl", "2"): day(-40)}, START))
    assert (stored.known_at, stored.known_at_least) == (day(-40), False)


def test_an_installation_on_another_machine_does_not_count() -> None:
    sights = [sight(2, "ssl 2", machine="a"), sight(2, "ssl 2", machine="b")]
    a, b = find_fixes(sights, [installed(3, "ssl 2", machine="b")], {}, START)
    assert (a.ended_at, b.ended_at) == (None, day(3))


def test_a_fix_that_comes_back_is_another_one() -> None:
    fixes = find_fixes([sight(2, "ssl 2"), sight(4), sight(6, "ssl 2")], [], {}, START)
    assert [fix.ended_at for fix in fixes] == [day(4), None]
