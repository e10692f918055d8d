"""Clusters that are patched and rebooted while they are used: nobody who uses them notices, and nothing is lost."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.domain.model import RunReport
from tasks.domain.states import OperationState
from tests.lab.clusters import (
    Customers,
    PostgresCluster,
    WebCluster,
    Writer,
    tell,
    wait_for_streams,
    watch_http,
    watch_postgresql,
)
from tests.lab.engine import Fleet, outcome_of, read_installations
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.killing import wait_for

pytestmark = pytest.mark.slow

MASKS = ("lab-plain", "lab-reboot")
NEW = {"lab-plain": "2.0", "lab-reboot": "2.0"}


def in_order_of_their_patches(members: Sequence[LabHost]) -> list[str]:
    """The names of members, by the times in their own logs."""
    times = {
        host.name: max(
            each.at for each in read_installations(host) if (each.package, each.version) == ("lab-reboot", "2.0")
        )
        for host in members
    }
    return sorted(times, key=lambda name: times[name])


def count_reboots(members: Sequence[LabHost], before: Sequence[str]) -> int:
    """How many have another boot id."""
    return sum(host.boot_id() != boot for host, boot in zip(members, before, strict=True))


def all_is_patched(report: RunReport, members: Sequence[LabHost]) -> None:
    outcomes = [outcome_of(report, host) for host in members]
    assert {each.state for each in outcomes} == {OperationState.SUCCEEDED}, [each.reason for each in outcomes]
    assert [host.package_versions(*NEW) for host in members] == [NEW] * len(members)


def test_no_request_fails_while_web_servers_behind_haproxy_are_patched_and_rebooted(
    hosts: BootHosts, tmp_path: Path
) -> None:
    balancer, *members = hosts(3, "cluster")
    cluster = WebCluster(balancer, members)
    cluster.set_up()
    fleet = Fleet(members, tmp_path)
    fleet.describe([cluster.as_set()])
    boots = [host.boot_id() for host in members]

    with Customers(balancer) as customers, watch_http(members) as watcher:
        wait_for(lambda: customers.sent > 100, "a hundred requests")
        report = fleet.patch(*MASKS)
        sent = customers.sent
        wait_for(lambda: customers.sent > sent + 100, "a hundred requests after the run")

    rebooted = count_reboots(members, boots)
    tell(f"requests sent: {customers.sent}, failed: {len(customers.failures)}, hosts rebooted: {rebooted},")
    tell(f"web servers that answered when the fewest did: {watcher.fewest()} of 2 ({watcher.asked} questions)")
    assert customers.failures == []
    assert rebooted == 2
    assert watcher.fewest() == 1
    all_is_patched(report, members)


def test_no_row_is_lost_while_a_postgresql_cluster_is_patched_and_rebooted_its_primary_last(
    hosts: BootHosts, tmp_path: Path
) -> None:
    """The primary is the first in the inventory. It hands over to a standby, which was patched before."""
    members = hosts(3, "cluster")
    primary, *_ = members
    cluster = PostgresCluster(members)
    cluster.set_up(primary)
    fleet = Fleet(members, tmp_path)
    fleet.describe([cluster.as_set()])
    boots = [host.boot_id() for host in members]

    with watch_postgresql(cluster) as watcher, Writer(cluster) as writer:
        wait_for(lambda: len(writer.confirmed) > 10, "rows")
        report = fleet.patch(*MASKS)
        confirmed = len(writer.confirmed)
        wait_for(lambda: len(writer.confirmed) > confirmed + 10, "rows after the run")

    lost = writer.confirmed - cluster.rows()
    order = in_order_of_their_patches(members)
    tell(f"rows confirmed: {len(writer.confirmed)}, found: {len(writer.confirmed) - len(lost)}, lost: {len(lost)},")
    tell(f"hosts rebooted: {count_reboots(members, boots)}, patched in the order {order}, primary was {primary.name},")
    tell(f"members that answered when the fewest did: {watcher.fewest()} of 3 ({watcher.asked} questions)")
    all_is_patched(report, members)
    assert not lost
    assert order[-1] == primary.name
    assert count_reboots(members, boots) == 3
    assert watcher.fewest() == 2
    wait_for_streams(cluster, 2)
    assert cluster.primary() != primary
