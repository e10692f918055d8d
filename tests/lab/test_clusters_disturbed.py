"""Clusters whose patching is disturbed: by the death of the controller, of a member, and by another run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from fleetpatch.cli.runtime.run_lookup import find_unfinished_acts
from tasks.domain.protocols.records import JournalEntry
from tasks.domain.states import OperationState
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tasks.steps.hooks import HOOK_ACT
from tests.lab.clusters import (
    PostgresCluster,
    Watcher,
    Writer,
    cluster_set,
    tell,
    wait_for_streams,
    watch_http,
    watch_postgresql,
)
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import BootHosts, LabHost
from tests.lab.killing import COMMAND, Controllers, its_lease_is_over, wait_for
from tests.lab.test_clusters import MASKS, NEW, all_is_patched, count_reboots, in_order_of_their_patches

pytestmark = pytest.mark.slow


@dataclass
class Scene:
    """A PostgreSQL cluster that is in use and watched.

    Attributes:
        fleet: its members; the first is the primary when the scene begins.
        boots: the members' boot ids then.
    """

    cluster: PostgresCluster
    fleet: Fleet
    boots: dict[LabHost, str]
    writer: Writer
    watcher: Watcher

    def rows_are_kept(self) -> None:
        """See that every confirmed row is there, and that two members answered at every moment."""
        lost = self.writer.confirmed - self.cluster.rows()
        kept = len(self.writer.confirmed) - len(lost)
        tell(f"rows confirmed: {len(self.writer.confirmed)}, found: {kept}, lost: {len(lost)},")
        tell(
            f"members that answered when the fewest did: {self.watcher.fewest()} of 3 ({self.watcher.asked} questions)"
        )
        assert not lost
        assert self.watcher.fewest() == 2


@contextmanager
def in_use(hosts: BootHosts, place: Path, **changes: object) -> Iterator[Scene]:
    members = hosts(3, "cluster")
    cluster = PostgresCluster(members)
    cluster.set_up(members[0])
    fleet = Fleet(members, place)
    fleet.describe([cluster.as_set() | changes])
    with watch_postgresql(cluster) as watcher, Writer(cluster) as writer:
        wait_for(lambda: len(writer.confirmed) > 10, "rows")
        yield Scene(cluster, fleet, {host: host.boot_id() for host in members}, writer, watcher)
        confirmed = len(writer.confirmed)
        wait_for(lambda: len(writer.confirmed) > confirmed + 10, "rows after the run")


def under_way(act: str, host: LabHost) -> Callable[[tuple[JournalEntry, ...]], bool]:
    """Whether this is being done to a host."""
    return lambda entries: any((each.act, each.machine) == (act, host.name) for each in find_unfinished_acts(entries))


def test_controllers_killed_in_a_reboot_and_in_a_switchover_cost_neither_rows_nor_the_quorum(
    hosts: BootHosts, tmp_path: Path
) -> None:
    with in_use(hosts, tmp_path) as scene:
        controllers = Controllers(scene.fleet)
        primary, first, _ = scene.fleet.hosts
        try:
            one = controllers.patch(updates={"classifications": [], "include": list(MASKS)})
            controllers.wait_until(under_way("reboot", first), "the reboot of a standby")
            one.kill()
            its_lease_is_over(controllers)
            two = controllers.start("resume", "last", "--no-prefect", "--json")
            controllers.wait_until(under_way(HOOK_ACT, primary), "the switchover")
            two.kill()
            its_lease_is_over(controllers)
            told = controllers.resume()
        finally:
            controllers.end()
        assert told.code == 0, told.err
        all_is_patched(controllers.newest(), scene.fleet.hosts)
        wait_for_streams(scene.cluster, 2)

    scene.rows_are_kept()
    assert count_reboots(scene.fleet.hosts, list(scene.boots.values())) == 3
    assert in_order_of_their_patches(scene.fleet.hosts)[-1] == primary.name
    assert scene.cluster.primary() != primary


def test_when_a_member_never_comes_back_no_other_is_touched_and_the_report_says_why(
    hosts: BootHosts, tmp_path: Path
) -> None:
    """Whichever is the first: none would come back."""
    with in_use(hosts, tmp_path, healthy_minutes=0.2) as scene:
        for host in scene.fleet.hosts:
            host.stay_off()
        budget = {"failure_budget_count": 3}  # it is not the budget that spares the others

        report = scene.fleet.patch(*MASKS, waves=budget, coming_up_minutes=0.2)

        outcomes = {host: outcome_of(report, host) for host in scene.fleet.hosts}
        for host, outcome in outcomes.items():
            tell(f"{host.name}: {outcome.state}: {outcome.reason}")
        (gone,) = [host for host, outcome in outcomes.items() if outcome.state is OperationState.FAILED]
        spared = [host for host in scene.fleet.hosts if host != gone]
        assert {outcomes[host].state for host in spared} == {OperationState.NOT_STARTED}
        assert all(f"{gone.name} is still out of service" in outcomes[host].reason for host in spared)
        assert all(host.package_versions(*NEW) == dict.fromkeys(NEW, "1.0") for host in spared)
        assert [scene.boots[host] for host in spared] == [host.boot_id() for host in spared]
        assert scene.cluster.streaming(spared) == 1

    scene.rows_are_kept()
    assert {each.host for each in scene.watcher.absences()} == {gone.name}


def test_two_runs_that_meet_in_a_set_never_take_two_members_together(hosts: BootHosts, tmp_path: Path) -> None:
    """Two processes with requests of their own for different members, and the same records."""
    members = hosts(4)
    fleet = Fleet(members, tmp_path)
    action = 'echo "$FLEETPATCH_RUN $(date +%s.%N)" >> /var/lab-turns'
    drain = {"kind": "machine-command", "target": action}
    page = {"name": "the page", "kind": "tcp", "target": "80"}
    fleet.describe([cluster_set(members, drain=drain, undrain=drain, healthy=[page])])
    controllers = Controllers(fleet, module=COMMAND)
    include = {"classifications": [], "include": list(MASKS)}
    boots = [host.boot_id() for host in members]

    try:
        with watch_http(members) as watcher:
            halves = [members[:2], members[2:]]
            begun = [controllers.patch(scope=scope_of(half), updates=include) for half in halves]
            told = [each.end() for each in begun]
    finally:
        controllers.end()

    assert [each.code for each in told] == [0, 0], [each.err for each in told]
    assert count_reboots(members, boots) == 4
    turns = sorted(turn for host in members for turn in turns_of(host))
    tell(f"turns (begin, end, run): {turns}")
    tell(f"members that answered when the fewest did: {watcher.fewest()} of 4 ({watcher.asked} questions)")
    assert len(turns) == 4
    assert all(before.end < after.begin for before, after in pairwise(turns))
    assert watcher.fewest() == 3
    with open_records(fleet.records_url) as records:
        runs = History(records).read_runs(2)
    assert max(run.started_at for run in runs) < min(run.ended_at for run in runs if run.ended_at), "they didn't meet"


def scope_of(members: Sequence[LabHost]) -> str:
    return f"name={'|'.join(host.name for host in members)}"


@dataclass(frozen=True, order=True)
class Turn:
    begin: float
    end: float
    run: str


def turns_of(host: LabHost) -> list[Turn]:
    """When it was out of its set: by its own log, on the one clock that all hosts have."""
    lines = [line.split() for line in host.sh("cat /var/lab-turns", root=True).splitlines()]
    return [Turn(float(out[1]), float(back[1]), out[0]) for out, back in zip(lines[::2], lines[1::2], strict=True)]
