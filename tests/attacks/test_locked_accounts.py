"""Attacks that make a directory lock an account, or that shut somebody's name, by wrong passwords at the pages."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fleetpatch.access.limiter import MAX_FAILURES, MAX_TRIES, TRY_SECONDS, NameLimiter
from tests.support.web_site import serve_site


def test_many_tries_at_once_are_no_more_than_one_after_the_other() -> None:
    """Attacker: anybody who reaches the login page.

    Way: many passwords for one name in the same moment, in several spellings, from several addresses.
    What must hold: the directory hears few of them, in a quarter of an hour.
    """
    now = [0.0]
    limiter = NameLimiter(lambda: now[0])
    names = ("anna", " anna", "ANNA ", "\uff41nna") * 20
    with ThreadPoolExecutor(16) as pool:
        begun = list(pool.map(lambda number: limiter.begin(names[number], f"192.0.2.{number}"), range(80)))
    assert sum(key is not None for key in begun) == MAX_TRIES
    now[0] += TRY_SECONDS - 1
    assert limiter.begin("anna", "192.0.2.1") is None
    now[0] += 2
    assert limiter.begin("anna", "192.0.2.1") is not None


def test_spellings_that_a_directory_takes_for_one_name_share_their_tries() -> None:
    """Attacker: anybody who reaches the login page.

    Way: the name of one account with more blanks, accents, a soft hyphen or other letters, which directories ignore
    (RFC 4518; Active Directory compares without accents).
    What must hold: all of them together have no more tries than one.
    """
    limiter = NameLimiter()
    names = (
        "anna lena", "anna  lena", "anna\u00a0lena", "anna\tlena", "anna \u3000 lena", "\u00e4nna lena",
        "a\u0308nna lena", "\u00c1nna l\u00e9na", "an\u00adna lena", "anna\u200b lena", "\uff41nna lena", "ANNA LENA",
    )  # fmt: skip
    assert sum(limiter.begin(name, "192.0.2.1") is not None for name in names * 2) == MAX_TRIES


def test_a_stranger_does_not_shut_a_name_where_its_person_is_known() -> None:
    """Attacker: anybody, with wrong passwords for a colleague's name.

    What must hold: from an address where the colleague has logged in before, the login goes on.
    """
    limiter = NameLimiter()
    key = limiter.begin("anna", "192.0.2.1")
    assert key is not None
    limiter.succeed(key, "anna", "192.0.2.1")
    assert sum(limiter.begin("anna", "203.0.113.9") is not None for _ in range(20)) == MAX_TRIES
    for _ in range(2 * MAX_TRIES):  # right ones do not count
        key = limiter.begin("Anna", "192.0.2.1")
        assert key is not None
        limiter.succeed(key, "Anna", "192.0.2.1")
    assert sum(limiter.begin("anna", "192.0.2.1") is not None for _ in range(20)) == MAX_TRIES


def test_many_tries_at_once_are_as_few_as_one_after_the_other(tmp_path: Path) -> None:
    """Attacker: somebody with one address and many connections. Way: guess codes of links all at the same time, before
    the first has failed. What must hold: no more are looked at than one after the other."""
    with serve_site(tmp_path) as site:
        sessions, together = site.context.sessions, threading.Barrier(MAX_FAILURES, timeout=60)

        def take_slowly(code: str) -> None:
            together.wait()  # all that are let in are here before the first is refused

        sessions.take_link = take_slowly  # type: ignore[method-assign]

        def guess(number: int) -> int:
            return site.open_browser().post("/login/link", data={"code": f"{number:043}"}).status_code

        with ThreadPoolExecutor(3 * MAX_FAILURES) as threads:
            codes = sorted(threads.map(guess, range(3 * MAX_FAILURES)))
    assert codes == [403] * MAX_FAILURES + [429] * 2 * MAX_FAILURES
