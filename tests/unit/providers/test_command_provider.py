"""The provider that is a command of the owner, with commands of the tests."""

import json
import sys
import time
from pathlib import Path

import pytest

from inventory.machine import IdentityPolicy, Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.provided_machines import (
    Consistency,
    DiskRole,
    ImageVersion,
    PowerState,
    ProviderAct,
    ProviderOrder,
)
from tasks.machines.providers.command import CommandProvider
from tasks.machines.providers.registry import ProviderPorts, open_provider
from tests.support.provider_records import KeptRecords, fail_to_connect

MACHINE = {
    "power": "Running",
    "disks": [{"id": "a", "role": "OS", "source": "pool/a"}, {"id": "b", "role": "Data", "source": "pool/b"}],
    "snapshots": [{"id": "s1", "taken_at": "2026-11-28T10:00:00+00:00", "consistency": "offline", "used_bytes": 7}],
    "kept_disks": [{"id": "u1", "source": "pool/old", "image": "1"}],
    "overlay": {"id": "r1", "power": "Stopped", "address": "10.0.0.1", "port": 2222},
}
UNZONED = {"id": "s1", "taken_at": "2026-11-28T10:00:00"}
ACTS = {"acts": ["take-snapshot", "replace-os-disk"]}


def open_command(place: Path, body: str) -> CommandProvider:
    program = place / "provider.py"
    program.write_text(f"import json, sys\norder = json.load(sys.stdin)\n{body}")
    settings = ProviderSettings("own", ProviderKind.COMMAND, command=f"{sys.executable} {program}")
    return CommandProvider(settings, "web-1", SystemClock())


def in_seconds(seconds: float) -> Deadline:
    return Deadline.after(SystemClock(), seconds)


def test_its_answer_is_the_machine(tmp_path: Path) -> None:
    machine = open_command(tmp_path, f"print(json.dumps({{'machine': {MACHINE!r}}}))").read_machine(
        deadline=in_seconds(60)
    )
    assert (machine.id, machine.power) == ("web-1", PowerState.RUNNING)
    assert [(disk.id, disk.role) for disk in machine.disks] == [("a", DiskRole.OS), ("b", DiskRole.DATA)]
    (snapshot,) = machine.snapshots
    assert (snapshot.consistency, snapshot.used_bytes) == (Consistency.OFFLINE, 7)
    assert machine.find_kept_disk("u1") is not None
    assert machine.overlay is not None
    assert (machine.overlay.power, machine.overlay.port) == (PowerState.STOPPED, 2222)


def test_it_gets_the_whole_order(tmp_path: Path) -> None:
    body = f"json.dump(order, open({str(tmp_path / 'order')!r}, 'w'))\n"
    body += f"print(json.dumps({ACTS!r} if order['act'] == 'acts' else {{'note': 'done'}}))"
    image = ImageVersion("os", "2", "pool/images/2", "sha256:ab")
    order = ProviderOrder(ProviderAct.REPLACE_OS_DISK, "u1", image=image, user_data="#cloud-config\n")
    assert open_command(tmp_path, body).carry_out(order, deadline=in_seconds(60)) == "done"
    assert json.loads((tmp_path / "order").read_text()) == {
        "provider": "own",
        "machine": "web-1",
        "act": "replace-os-disk",
        "id": "u1",
        "with_data_disks": False,
        "is_quiesced": True,
        "user_data": "#cloud-config\n",
        "network_config": "",
        "image": {"image": "os", "version": "2", "reference": "pool/images/2", "digest": "sha256:ab", "withdrawn": ""},
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('the pool is full')", "the pool is full"),
        ("print('no JSON')", "another form"),
        ("print('[]')", "no JSON object"),
        ("print('{}')", "machine"),
        (f"print(json.dumps({{'machine': {MACHINE | {'power': 'on'}!r}}}))", "'on'"),
        (
            f"print(json.dumps({{'machine': {MACHINE | {'snapshots': [UNZONED]}!r}}}))",
            "zone",
        ),
    ],
)
def test_a_fault_is_told_with_a_remedy(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(ProviderError, match=words) as raised:
        open_command(tmp_path, body).read_machine(deadline=in_seconds(60))
    assert not isinstance(raised.value, ProviderUnavailable)
    assert raised.value.hint


def test_it_may_say_that_it_succeeds_later(tmp_path: Path) -> None:
    body = "print('the array is busy', file=sys.stderr)\nsys.exit(75)"
    with pytest.raises(ProviderUnavailable, match="the array is busy"):
        open_command(tmp_path, body).read_machine(deadline=in_seconds(60))


def test_it_is_ended_with_what_it_started_when_its_time_is_over(tmp_path: Path) -> None:
    body = "import os, subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
    body += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\nchild.wait()"
    with pytest.raises(ProviderUnavailable):
        open_command(tmp_path, body).read_machine(deadline=in_seconds(2))
    pid, until = (tmp_path / "pid").read_text(), time.monotonic() + 60
    while (state := _find_state(pid)) not in ("", "Z") and time.monotonic() < until:
        time.sleep(0.02)
    assert state in ("", "Z")


def _find_state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def test_an_order_has_the_minutes_of_its_settings_and_no_more(tmp_path: Path) -> None:
    body = f"if order['act'] != 'acts':\n    time.sleep(60)\nprint(json.dumps({ACTS!r}))"
    program = tmp_path / "provider.py"
    program.write_text(f"import json, sys, time\norder = json.load(sys.stdin)\n{body}")
    command = f"{sys.executable} {program}"
    settings = ProviderSettings("own", ProviderKind.COMMAND, command=command, timeout_minutes=0.02)
    ports = ProviderPorts(SystemClock(), fail_to_connect, KeptRecords())
    provider = open_provider(
        settings,
        Machine(name="web-1", address="web-1", provider="own/web-1", identity=IdentityPolicy.UNVERIFIED),
        ports,
    )
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="took too long"):
        provider.carry_out(ProviderOrder(ProviderAct.TAKE_SNAPSHOT, "s1"), deadline=in_seconds(300))
    assert time.monotonic() - began < 30


def test_an_act_that_it_does_not_have_is_not_ordered(tmp_path: Path) -> None:
    provider = open_command(tmp_path, f"print(json.dumps({ACTS!r}))")
    assert provider.acts == {ProviderAct.TAKE_SNAPSHOT, ProviderAct.REPLACE_OS_DISK}
    with pytest.raises(ProviderError, match="revert"):
        provider.carry_out(ProviderOrder(ProviderAct.REVERT, "s1"), deadline=in_seconds(60))


def test_a_program_that_others_can_write_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "provider"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    provider = CommandProvider(
        ProviderSettings("own", ProviderKind.COMMAND, command=str(program)), "web-1", SystemClock()
    )
    with pytest.raises(ProviderError, match="not trusted"):
        provider.read_machine(deadline=in_seconds(60))
