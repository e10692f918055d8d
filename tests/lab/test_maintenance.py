"""What is held is applied on a real machine on day 35 of a clock, and guests leave a host before its real reboot."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tasks.steps.machine.guests
from deployments.configuration.loader import load_configurations
from deployments.configuration.model import load_inventories
from deployments.maintenance.groups import HoldGroups, build_groups
from deployments.maintenance.tick import run_tick
from flows.composition import read_credential
from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.read_requests import AssessRequest
from tasks.domain.states import OperationState, RebootState
from tasks.records.maintenance import SqlMaintenance
from tasks.records.setup import open_records
from tasks.rules.maintenance.model import PackageEnd
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import LabHost
from tests.support.fake_clock import FakeClock
from tests.support.held_fleet import FakeApplyStarter

Boot = Callable[[int], list[LabHost]]

CONFIGURATION = """
name: lab
scope: "*"
updates: {classifications: [], include: [lab-plain]}
window: {start: 2026-01-03 22:00, length: 2h, zone: UTC, recurrence: Once}
reboot: Never
maintenance: {hold: 35 days}
"""


def _load(fleet: Fleet) -> HoldGroups:
    path = fleet.place / "configurations.yaml"
    path.write_text(f"{CONFIGURATION}inventory: {fleet.inventory}\n")
    configurations = load_configurations(path, datetime.now(UTC).date())
    return build_groups(configurations, load_inventories(configurations))


def test_what_is_held_is_applied_on_day_35_of_a_clock(hosts: Boot, tmp_path: Path) -> None:
    fleet = Fleet(hosts(1), tmp_path)
    fleet.describe()
    who = Caller(records_url=fleet.records_url)
    before = [host.package_versions("lab-plain") for host in fleet.hosts]
    execute_run(AssessRequest(scope="*", inventory=fleet.inventory), who, lambda request, ports: LocalRunner())
    clock, starter = FakeClock(datetime.now(UTC)), FakeApplyStarter()
    run_tick(_load(fleet), who, starter, clock, read_credential)
    clock.advance(34 * 86_400)
    run_tick(_load(fleet), who, starter, clock, read_credential)
    assert not starter.started
    clock.advance(86_400)
    run_tick(_load(fleet), who, starter, clock, read_credential)
    ((group, request),) = starter.started.values()
    assert group == "lab"
    with open_records(fleet.records_url) as records:  # this process is the worker, and has no flow run
        SqlMaintenance(records.database).set_flow_run("lab/1/overdue/1", "")
    now_window = request.window.model_copy(update={"start": None})  # the machines live today
    today = request.model_copy(update={"window": now_window})

    report = execute_run(today, who, lambda request, ports: LocalRunner())

    assert report.run.state is OperationState.SUCCEEDED
    assert all(host.package_versions("lab-plain") != old for host, old in zip(fleet.hosts, before, strict=True))
    clock.advance(900)
    run_tick(_load(fleet), who, starter, clock, read_credential)
    with open_records(fleet.records_url) as records:
        record = SqlMaintenance(records.database).read_groups()["lab"]
    assert record.state.package is None
    assert record.last_ended is not None
    assert record.last_ended.end is PackageEnd.APPLIED
    assert timedelta(days=35) <= clock.now() - record.last_ended.first_seen


QM = r"""#!/bin/sh
state() { systemctl is-active -q "guest-$1" && echo running || echo stopped; }
case $1 in
  list)
    printf '      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID\n'
    for id in 100 101 102; do printf '%10s %-20s %-10s 512 8.00 0\n' "$id" "vm-$id" "$(state "$id")"; done ;;
  shutdown) [ "$2" = "$(cat /etc/stubborn 2>/dev/null)" ] || systemctl stop "guest-$2" ;;
  stop) systemctl stop "guest-$2" ;;
  start) systemctl start "guest-$2" ;;
esac
"""


def _make_guests(host: LabHost) -> None:
    """Let the host have three guests, which its boot does not start. Two of them run."""
    for number in (100, 101, 102):
        unit = f"/etc/systemd/system/guest-{number}.service"
        host.sh(f"printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > {unit}", root=True)
    (host.root / "usr/local/bin/qm").write_text(QM)
    host.sh("chmod 755 /usr/local/bin/qm; systemctl daemon-reload; systemctl start guest-100 guest-102", root=True)


def _list_running(host: LabHost) -> list[str]:
    return host.sh("qm list | awk '$3 == \"running\" { print $1 }'", root=True).split()


def test_guests_leave_before_a_real_reboot_and_those_that_ran_are_back(
    hosts: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that does not leave keeps its host up, in a run before."""
    (host,) = hosts(1)
    _make_guests(host)
    fleet = Fleet([host], tmp_path)
    _a_guest_that_does_not_leave_keeps_its_host_up(fleet, monkeypatch)
    fleet.describe(every={"guests": {"minutes": 2}})
    boot = host.boot_id()

    report = fleet.patch("lab-dep-a", reboot="Always")

    assert report.run.state is OperationState.SUCCEEDED
    assert host.boot_id() != boot
    assert _list_running(host) == ["100", "102"]
    stopped = host.sh("journalctl -b -1 -u guest-100 --no-pager | grep -c Stopped || :", root=True)
    assert int(stopped) >= 1


def _a_guest_that_does_not_leave_keeps_its_host_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (host,) = fleet.hosts
    monkeypatch.setattr(tasks.steps.machine.guests, "LATER_SECONDS", 10.0)  # a minute, and it is watched twice
    host.sh("echo 102 > /etc/stubborn", root=True)
    fleet.describe(every={"guests": {"minutes": 0.1}})
    boot = host.boot_id()

    report = fleet.patch("lab-plain", reboot="Always")

    assert host.boot_id() == boot
    assert outcome_of(report, host).reboot is not RebootState.COMPLETED
    assert _list_running(host) == ["100", "102"]
    host.sh("rm /etc/stubborn", root=True)
