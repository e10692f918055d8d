"""Machines that other runs carry out: the whole run tells them nothing, and the runs of its shards tell them once."""

from datetime import timedelta

from tests.support.event_fleet import ANNOUNCE
from tests.support.fake_packages import FakePackage
from tests.support.site_fleet import RUN, Sites


def test_each_machine_is_told_once_by_the_run_that_reboots_it() -> None:
    sites = Sites(one="default", two="hamburg")
    for machine in sites.fleet.machines.values():
        machine.world.packages[:] = [FakePackage("a", seconds=60, asks_reboot=True, requires_reboot=True)]

    sites.patch(start=sites.fleet.clock.now() + timedelta(hours=1), minutes=240, **ANNOUNCE)

    events = list(sites.fleet.events.events.values())
    assert sorted(event.resources for event in events) == [("one",), ("two",)]
    assert RUN not in {event.run_id for event in events}
    assert [machine.boots.count for machine in sites.fleet.machines.values()] == [1, 1]
