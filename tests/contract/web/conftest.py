"""Fixtures of the pages' tests."""

from collections.abc import Iterator

import pytest

from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import fill_site
from tests.support.web_site import serve_site
from tests.support.web_target import Target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Pages that tests attack."""
    place = tmp_path_factory.mktemp("attacked")
    fleet = fill_site(place)
    with serve_site(place, clock=FakeClock(fleet.now), requires_login=True) as site:
        yield Target(site, fleet)
