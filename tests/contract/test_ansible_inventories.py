"""Ansible inventories, read here and by the real Ansible: the same hosts, groups, variables, and the same ways to them.

What fleetpatch does not carry over is a fault. So a tree that it accepts must be one in which nothing differs.
"""

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Inventory, Machine, PatchOwner
from tests.support.ansible_oracle import Oracle
from tests.support.ansible_trees import Made, trees

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")


@pytest.fixture(scope="module")
def ansible() -> Iterator[Oracle]:
    with Oracle() as oracle:
        yield oracle


@cache
def resolved(words: tuple[str, ...]) -> dict[str, str]:
    """What the real ssh makes of its arguments."""
    said = subprocess.run(["ssh", "-F", "none", "-G", *words[1:]], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in said.stdout.splitlines() if " " in line)


def same(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        return address.lower()


def jumps_of(way: dict[str, str]) -> list[tuple[str, str]]:
    """Address and port of each jump host."""
    if "proxycommand" in way:
        return [(way["proxycommand"].split()[-1].rpartition("@")[2], "22")]
    found = []
    for spec in way.get("proxyjump", "none").split(","):
        host, _, port = spec.rpartition("@")[2].partition(":")
        found += [(host, port or "22")] if spec != "none" else []
    return found


def differences(ours: Inventory, theirs: dict[str, Any]) -> list[str]:
    """Return everything in which fleetpatch and Ansible differ."""
    found = [f"Ansible could not read it: {each}" for each in theirs["faults"]]
    machines = {machine.name: machine for machine in ours.machines}
    if set(machines) != set(theirs["hosts"]):
        return [*found, f"hosts: {sorted(machines)} here, {sorted(theirs['hosts'])} there"]
    for name, machine in machines.items():
        found += [f"{name}: {each}" for each in _differences(machine, theirs["hosts"][name], machines)]
    return found


def _differences(machine: Machine, host: dict[str, Any], machines: dict[str, Machine]) -> Iterator[str]:
    if sorted(machine.groups) != host["groups"]:
        yield f"groups {machine.groups} here, {host['groups']} there"
    variables = host["vars"]
    location = variables.get("fleetpatch_location") or ""
    if isinstance(location, str) and machine.location != location:  # in our own variables, words are words: 0x16 stays
        yield f"location {machine.location!r} here, {location!r} there"
    if machine.owner != PatchOwner(variables.get("fleetpatch_owner") or "fleetpatch"):
        yield f"owner {machine.owner} here, {variables.get('fleetpatch_owner')!r} there"
    way = resolved(tuple(host["ssh"]))
    if (same(machine.address), str(machine.port or 22)) != (same(way["hostname"]), way["port"]):
        yield f"{machine.address}:{machine.port} here, {way['hostname']}:{way['port']} there"
    given = any(word.startswith("User=") for word in host["ssh"])
    if machine.user != (way["user"] if given else None):
        yield f"user {machine.user} here, {way['user'] if given else None} there"
    key = next((word.partition("=")[2].strip('"') for word in host["ssh"] if word.startswith("IdentityFile=")), None)
    # ssh looks for a relative one where Ansible is called; docs/reference/inventory.md says where it is looked for here
    ours = str(Path(machine.credential.removeprefix("key:")).expanduser())
    if not ours.endswith(key or "default"):
        yield f"credential {machine.credential} here, {key} there"
    through = [(same(machines[name].address), str(machines[name].port or 22)) for name in machine.jump]
    if through != [(same(address), port) for address, port in jumps_of(way)]:
        yield f"through {through} here, {jumps_of(way)} there"


def write(folder: Path, made: Made) -> Path:
    for name, text in made.files.items():
        path = folder / name
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue  # a file of another name stands in its way
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / made.inventory


def judge(folder: Path, made: Made, oracle: Oracle) -> bool:
    """Return whether fleetpatch took a tree; where it did, nothing may differ."""
    path = write(folder, made)
    try:
        ours = load_inventory(path)
    except InvalidInventory:
        return False
    found = differences(ours, oracle.ask(path))
    texts = "\n".join(f"--- {name}\n{text}" for name, text in made.files.items())
    assert not found, "\n".join([*found, f"inventory: {made.inventory or 'the directory'}", texts])
    return True


def bounded(share: int) -> Any:
    return settings(
        max_examples=int(os.environ.get("FLEETPATCH_FUZZ", share)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@needs_ssh
@pytest.mark.parametrize(("odd", "taken_at_least"), [(False, 3), (True, 1)], ids=["usual", "odd"])
def test_what_is_taken_is_what_ansible_has(
    ansible: Oracle, tmp_path_factory: pytest.TempPathFactory, odd: bool, taken_at_least: int
) -> None:
    taken: list[bool] = []

    @bounded(40)
    @given(trees(odd=odd))
    def look(made: Made) -> None:
        taken.append(judge(tmp_path_factory.mktemp("tree"), made, ansible))

    look()
    assert sum(taken) >= taken_at_least, "nearly everything is refused, so nothing was compared"
