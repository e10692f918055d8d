"""Jump hosts that many machines share: what goes wrong with one machine, or with the jump host, and for whom."""

import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from paramiko import Channel

from inventory.machine import Check, CheckKind, HostKeyPolicy, HostKeySettings, Inventory, Limits, Machine
from tasks.domain.errors import AuthenticationFailed, DeadlineExceeded, Unreachable, WayUnreachable
from tasks.machines.transport.session import Session
from tasks.machines.transport.ssh import connection as connecting
from tasks.machines.transport.ssh import jump_hosts
from tasks.machines.transport.ssh.restricted_transport import ThreadSafeTransport
from tests.contract.ssh_world import GREET, World, outcomes, soon
from tests.support.ssh_server import Server, new_key

# paramiko's threads, of the client and of the server, may raise when the other side was quicker to hang up
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

REFUSED = 1  # a port where nothing listens, as at the next ones
LATE_SECONDS = 3.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels to machines that don't answer are given up sooner. What answers has its time, however busy it is."""
    monkeypatch.setattr("tasks.machines.transport.ssh.restricted_transport.SERVER_ANSWER_SECONDS", 1.5)
    give_up_sooner(monkeypatch, lambda port: port < 1024)


def give_up_sooner(monkeypatch: pytest.MonkeyPatch, is_one: Callable[[int], bool]) -> None:
    open_tunnel = ThreadSafeTransport.open_tunnel

    def open_or_give_up(self: ThreadSafeTransport, address: str, port: int, seconds: float) -> Channel:
        return open_tunnel(self, address, port, min(seconds, 2.0) if is_one(port) else seconds)

    monkeypatch.setattr(ThreadSafeTransport, "open_tunnel", open_or_give_up)


def behind(world: World, *ports: int, **switches: Any) -> tuple[Server, Server, list[Session]]:
    """Return a jump host, a healthy machine behind it, and sessions to that one and to machines at these ports."""
    bastion, good = world.server(**switches), world.server()
    world.machines = (world.machine(bastion, "bastion"),)
    sessions = [world.session(good, name="good", jump=("bastion",))]
    sessions += [world.session(good, name=f"m{port}", port=port, jump=("bastion",)) for port in ports]
    return bastion, good, sessions


def off(bastion: Server, port: int) -> None:
    bastion.slow[port] = None


def closed(bastion: Server, port: int) -> None:
    """Nothing listens at that port."""


def prohibited(bastion: Server, port: int) -> None:
    bastion.prohibited.add(port)


def late(bastion: Server, port: int) -> None:
    bastion.slow[port] = LATE_SECONDS


FAULTS: list[tuple[Callable[[Server, int], None], str]] = [
    (off, "no answer in 2 s"),
    (closed, "Connect failed"),
    (prohibited, "Administratively prohibited"),
    (late, "no answer in 2 s"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
@pytest.mark.parametrize("machines", [1, 10])
def test_what_is_wrong_with_machines_behind_a_jump_host_costs_no_other_its_connection(world, fault, words, machines):
    bastion, good, (healthy, *sick) = behind(world, *range(REFUSED, REFUSED + machines))
    for port in range(REFUSED, REFUSED + machines):
        fault(bastion, port)
    healthy.run_script(GREET, deadline=soon())  # its connection, and the jump host's, are held from here on

    for error in outcomes(sick):
        assert isinstance(error, Unreachable)
        assert words in error.message

    if fault is late:
        time.sleep(LATE_SECONDS)  # what opens too late has come by now
    healthy.run_script(replace(GREET, read_only=False), deadline=soon())
    assert (bastion.accepted, good.accepted) == (1, 1)


def test_each_machine_is_told_its_own_reason_when_many_fail_at_once(world):
    ports = range(REFUSED, REFUSED + 12)
    bastion, _, (healthy, *sick) = behind(world, *ports)
    for port in ports:
        FAULTS[port % 3][0](bastion, port)
    healthy.run_script(GREET, deadline=soon())
    told = outcomes(sick)
    assert [FAULTS[port % 3][1] in str(error) for port, error in zip(ports, told, strict=True)] == [True] * 12
    assert bastion.accepted == 1


def test_a_machine_that_answers_late_is_waited_for_while_its_jump_host_answers(world):
    bastion, good, (healthy, *_) = behind(world)
    bastion.slow[good.port] = 2.0
    assert healthy.run_script(GREET, deadline=soon()).exit_code == 7
    assert bastion.accepted == 1


def test_a_jump_host_that_answers_nothing_any_more_is_dialled_again_for_all(world, monkeypatch):
    bastion, good, (healthy, *_) = behind(world)
    healthy.run_script(GREET, deadline=soon())
    bastion.freeze_lines()
    give_up_sooner(monkeypatch, lambda _: bastion.accepted == 1)
    more = [world.session(good, name=f"n{number}", jump=("bastion",)) for number in range(10)]
    assert outcomes(more) == [None] * 10
    assert bastion.accepted == 2


def test_a_caller_without_time_does_not_judge_the_jump_host(world):
    bastion, good, (healthy, sick) = behind(world, REFUSED)
    off(bastion, REFUSED)
    healthy.run_script(GREET, deadline=soon())
    bastion.frozen = True
    with pytest.raises(DeadlineExceeded):
        sick.run_script(GREET, deadline=soon(0.2))
    bastion.frozen = False
    healthy.run_script(replace(GREET, read_only=False), deadline=soon())
    assert (bastion.accepted, good.accepted) == (1, 1)


def test_a_jump_host_that_died_meanwhile_is_dialled_once_for_all(world):
    bastion, good, (healthy, *_) = behind(world)
    healthy.run_script(GREET, deadline=soon())
    bastion.cut()
    more = [world.session(good, name=f"n{number}", jump=("bastion",)) for number in range(10)]
    assert outcomes(more) == [None] * 10
    assert bastion.accepted == 2


def test_a_jump_host_that_never_greets_is_waited_for_once_and_not_by_each_in_turn(world, monkeypatch):
    monkeypatch.setattr(jump_hosts, "JUMP_HOST_TIMEOUT_SECONDS", 5.0)  # and its failure is known for as long
    monkeypatch.setattr(jump_hosts, "SLOW_FAILURE_SECONDS", 0.5)
    bastion, good, sessions = behind(world, silent=True)
    sessions += [world.session(good, name=f"n{number}", jump=("bastion",)) for number in range(29)]
    began = time.monotonic()
    told = outcomes(sessions)
    assert time.monotonic() - began < 5.0 * len(sessions) / 2
    assert {type(error) for error in told} == {WayUnreachable}
    assert all("jump host bastion did not open in 5 s" in str(error) for error in told)
    accepted = bastion.accepted
    with pytest.raises(Unreachable):  # and whoever comes next does not wait for it again
        sessions[0].run_script(GREET, deadline=soon())
    assert bastion.accepted == accepted


def test_who_has_less_time_than_the_jump_host_takes_leaves_the_others_waiting(world):
    bastion, good, (first, *_) = behind(world, silent=True)
    second = world.session(good, name="second", jump=("bastion",))
    told: list[object] = []
    waiting = threading.Thread(target=lambda: told.append(second.run_script(GREET, deadline=soon()).exit_code))
    began = time.monotonic()
    waiting.start()
    with pytest.raises(DeadlineExceeded):
        first.run_script(GREET, deadline=soon(0.3))
    assert time.monotonic() - began < jump_hosts.JUMP_HOST_TIMEOUT_SECONDS - 5
    bastion.silent = False
    bastion.cut()  # the line without a greeting breaks, and is tried again
    waiting.join()
    assert told == [7]


@pytest.mark.parametrize("credential", ["key", "password"])
def test_a_jump_hosts_refusal_is_known_to_all_machines_behind_it(world, tmp_path: Path, credential: str):
    new_key(tmp_path / "wrong")
    (tmp_path / "password").write_text("wrong")
    (tmp_path / "password").chmod(0o600)
    reference = f"key:{tmp_path / 'wrong'}" if credential == "key" else f"file:{tmp_path / 'password'}"
    bastion, good = world.server(), world.server()
    world.machines = (world.machine(bastion, "bastion", credential=reference),)
    sessions = [world.session(good, name=f"n{number}", jump=("bastion",)) for number in range(4)]
    for error in [*outcomes(sessions), *outcomes(sessions)]:
        assert isinstance(error, AuthenticationFailed)
        assert error.machine == "bastion"
    assert len(bastion.logins) == 1


OTHER: dict[str, Any] = {
    "address": "127.0.0.2",
    "port": 2,
    "user": "another",
    "credential": "agent",
    "legacy_crypto": True,
    "host_keys_of": ("192.0.2.1", 22),
    "policy": HostKeyPolicy.LEARN,
    "known_hosts": Path("/another/known_hosts"),
}
SAME: dict[str, Any] = {  # what does not decide who is trusted, and as whom
    "name": "another",
    "tags": {"a": "b"},
    "groups": ("another",),
    "limits": Limits(max_reboots=7),
    "pre_checks": (Check("c", CheckKind.TCP, "1"),),
    "probes": (Check("c", CheckKind.TCP, "1"),),
}


def _trust(machine: Machine, host_keys: HostKeySettings) -> object:
    """Return the very connection that would be used."""
    inventory = Inventory((machine, replace(machine, name="target", jump=(machine.name,))), host_keys)
    around = connecting.SshSettings(host_keys, pytest.fail, None, None)  # type: ignore[arg-type]  # nothing is opened
    BASTIONS.build_dialer(inventory.find_machine("target"), inventory, around)
    return BASTIONS._jump_hosts[jump_hosts._build_route_key((machine,), host_keys)]


BASTIONS = jump_hosts.JumpHostPool()
HOP = Machine("hop", "127.0.0.1", port=1, user="patch", credential="key:/k")
KEYS = HostKeySettings(HostKeyPolicy.PINNED, Path("/known_hosts"))


@pytest.mark.parametrize("name", [field.name for field in fields(Machine)])
def test_two_ways_share_a_jump_host_only_when_they_reach_it_alike(name: str):
    if name in OTHER:
        assert _trust(HOP, KEYS) is not _trust(replace(HOP, **{name: OTHER[name]}), KEYS)
    elif name in SAME:
        assert _trust(HOP, KEYS) is _trust(replace(HOP, **{name: SAME[name]}), KEYS)
    else:
        assert name in {"transport", "os", "jump", "privilege", "privilege_password", "zone", "environment"} | {
            "location",
            "availability_zone",
            "site",
            "mirror",
            "hypervisor",
            "owner",
            "winrm",
            "wake",
            "scheduled_events",
            "guests",
            "provider",
            "identity",
        }, f"does {name} decide who is trusted at a jump host, and as whom?"


@pytest.mark.parametrize("name", [field.name for field in fields(HostKeySettings)])
def test_two_inventories_share_a_jump_host_only_when_they_trust_alike(name: str):
    assert _trust(HOP, KEYS) is not _trust(HOP, replace(KEYS, **{name: OTHER[name]}))
    assert _trust(HOP, KEYS) is _trust(HOP, replace(KEYS))
