"""Fixtures of the pages' tests."""

from collections.abc import Iterator

import pytest

from tasks.domain.rows.audit import AuditResult
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


@pytest.fixture
def stands_still(target: Target) -> Iterator[None]:
    """Nothing may be done during the test: no act begins, and all runs stay as they are."""

    def look() -> object:
        leases = target.site.records.leases
        preparation = {"login", "add token", "add login link"}
        acts = [x for x in target.read_log() if x.result is not AuditResult.REFUSED and x.act not in preparation]
        return acts, [leases.find_lease(run_id) for run_id in sorted(target.fleet.runs.values())]

    before = look()
    yield
    assert look() == before
