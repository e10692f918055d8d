"""Attacks on the pages by way of a login provider that does not answer."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleetpatch.access.providers import logins as under_test
from fleetpatch.access.providers.login_file import LoginFile
from fleetpatch.access.providers.logins import LDAP, Logins
from fleetpatch.access.providers.person import LoginRefused, ProviderAway
from tests.support.fake_clock import FakeClock


def ask(logins: Logins, seconds: float) -> bool:
    """Return whether the provider was asked. It does not answer."""
    asked = False
    try:
        with logins.ask_for_login(LDAP):
            asked = True
            time.sleep(seconds)
            raise ProviderAway("away")
    except ProviderAway:
        return asked


def test_strangers_hold_few_threads_with_a_provider_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: anybody who reaches the login page while the provider is away.

    Way: many logins in the same moment, and one after the other.
    What must hold: few wait; after the first failure none waits for half a minute. An answer that is no login, or a
    fast failure, stops nobody else's login.
    """
    monkeypatch.setattr(under_test, "_SLOW_SECONDS", 0.1)
    monkeypatch.setattr(under_test, "_PLACE_SECONDS", 0.05)
    clock = FakeClock()
    logins = Logins(LoginFile.model_construct(roles=[]), clock)
    assert [ask(logins, 0) for _ in range(5)] == [True] * 5
    with pytest.raises(LoginRefused), logins.ask_for_login(LDAP):
        raise LoginRefused("no")
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: ask(logins, 1.0), range(16))) == 4
    assert not ask(logins, 0)
    clock.advance(31)
    assert ask(logins, 0)
