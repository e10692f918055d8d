"""fleet.yaml: what it may say, and which of its voices wins."""

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.loader import load_inventory
from inventory.machine import (
    Check,
    CheckKind,
    FailedCheckEffect,
    HostKeyPolicy,
    HostKeySettings,
    Inventory,
    Limits,
    Machine,
    OsFamily,
    PatchOwner,
    PrivilegeMethod,
    TransportKind,
)
from inventory.name_ranges import InvalidRange, expand_ranges, has_range

ROOT = Path(__file__).parents[3]


def load(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return load_inventory(path)


def test_the_example_loads() -> None:
    inventory = load_inventory(ROOT / "inventory" / "fleet.example.yaml")
    assert [machine.name for machine in inventory.machines] == [
        "bastion",
        "web-01",
        "web-02",
        "web-03",
        "web-canary",
        "db-1",
        "old-box",
        "win-1",
        "controller",
    ]
    assert inventory.find_machine("web-02").address == "web-02.internal.example.org"
    assert inventory.find_machine("db-1").limits == Limits(reboot_reserve_minutes=15, max_reboots=1)
    assert inventory.find_machine("bastion").owner is PatchOwner.MANUAL
    assert inventory.find_machine("controller").user is None
    assert inventory.host_keys.policy is HostKeyPolicy.PINNED


def test_every_key(tmp_path: Path) -> None:
    inventory = load(
        tmp_path,
        """\
host_keys: {policy: ca, known_hosts: pins}
machines:
  - name: all-of-it
    address: 192.0.2.1
    port: 2222
    transport: ssh
    os: windows
    user: DOMAIN\\patch
    credential: key:keys/id?passphrase=file:phrase
    privilege: sudo
    privilege_password: prefect:sudo
    jump: [hop-1, hop-2]
    zone: America/New_York
    environment: prod
    location: Zürich 1
    tags: {ring: 1.10, on: yes}
    groups: web db
    owner: os
    legacy_crypto: true
    limits: {reboot_reserve_minutes: 10, reboot_timeout_minutes: 7.5, max_reboots: 3}
    pre_checks: [{name: quiet, kind: command, target: 'true', level: warn, timeout_seconds: 5}]
    probes: [{name: web, kind: http, target: 'https://x/y'}]
  - hop-1
  - name: hop-2
""",
    )
    assert inventory.machines[0] == Machine(
        name="all-of-it",
        address="192.0.2.1",
        port=2222,
        transport=TransportKind.SSH,
        os=OsFamily.WINDOWS,
        user="DOMAIN\\patch",
        credential=f"key:{tmp_path}/keys/id?passphrase=file:{tmp_path}/phrase",
        privilege=PrivilegeMethod.SUDO,
        privilege_password="prefect:sudo",
        jump=("hop-1", "hop-2"),
        zone="America/New_York",
        environment="prod",
        location="Zürich 1",
        tags={"on": "yes", "ring": "1.10"},
        groups=("web", "db"),
        owner=PatchOwner.OS,
        legacy_crypto=True,
        limits=Limits(10, 7.5, 3),
        pre_checks=(Check("quiet", CheckKind.COMMAND, "true", FailedCheckEffect.WARN, 5),),
        probes=(Check("web", CheckKind.HTTP, "https://x/y"),),
    )
    assert inventory.machines[1] == Machine(name="hop-1", address="hop-1")
    assert inventory.host_keys == HostKeySettings(HostKeyPolicy.CA, tmp_path / "pins")
    assert inventory.source == tmp_path / "fleet.yaml"


def test_precedence(tmp_path: Path) -> None:
    inventory = load(
        tmp_path,
        """\
defaults: {user: d, zone: UTC, environment: d, tags: {a: d, b: d, c: d}, limits: {max_reboots: 1}, privilege: sudo}
groups:
  one: {environment: one, location: one, tags: {b: one, c: one}}
  two: {location: two, limits: {reboot_reserve_minutes: 5}, probes: [{name: g, kind: tcp, target: '1'}]}
  bare:
machines:
  - {name: m, groups: [one, two, bare], tags: {c: m}, user: m, privilege: }
  - {name: n, groups: [two, one], probes: []}
""",
    )
    m, n = inventory.machines
    assert (m.user, m.environment, m.location, dict(m.tags)) == ("m", "one", "two", {"a": "d", "b": "one", "c": "m"})
    assert m.limits == Limits(reboot_reserve_minutes=5, max_reboots=1)
    assert m.privilege is PrivilegeMethod.AUTO  # an empty value takes the default's back
    assert (n.user, n.location, dict(n.tags)) == ("d", "one", {"a": "d", "b": "one", "c": "one"})
    assert (len(m.probes), n.probes) == (1, ())


def test_words_stay_words(tmp_path: Path) -> None:
    text = "machines:\n- {name: 007, address: x, environment: no, location: 1e3, tags: {when: 2026-01-02, v: 0x10}}\n"
    (machine,) = load(tmp_path, text).machines
    assert (machine.name, machine.environment, machine.location) == ("007", "no", "1e3")
    assert dict(machine.tags) == {"v": "0x10", "when": "2026-01-02"}


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = """\
machines:
  - &base {name: a, user: x, port: 22}
  - {<<: *base, name: b, port: 23}
  - {<<: [{user: first}, {user: second, zone: Asia/Tokyo}], name: c}
"""
    a, b, c = load(tmp_path, text).machines
    assert (a.user, a.port, b.user, b.port, c.user, c.zone) == ("x", 22, "x", 23, "first", "Asia/Tokyo")


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("2001:DB8::1", "2001:db8::1"),
        ("'[2001:db8::1]'", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("web_1.example.org.", "web_1.example.org."),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_addresses(tmp_path: Path, address: str, read: str) -> None:
    assert load(tmp_path, f"machines:\n- {{name: a, address: {address}}}\n").machines[0].address == read


def test_one_address_may_serve_several_ports_and_ways(tmp_path: Path) -> None:
    ways = ["{name: a, address: x, port: 1}", "{name: b, address: x, port: 2}", "{name: c, address: x, jump: a}"]
    assert len(load(tmp_path, f"machines: [{', '.join(ways)}]\n").machines) == 3


def test_machines_can_be_copied_and_pickled(tmp_path: Path) -> None:
    inventory = load(tmp_path, "machines:\n- {name: a, tags: {x: y}}\n- b\n")
    assert pickle.loads(pickle.dumps(inventory)) == copy.deepcopy(inventory) == inventory
    assert dataclasses.asdict(inventory.machines[0])["tags"] == {"x": "y"}


def test_ranges() -> None:
    assert expand_ranges("web-[01:03]") == ("web-01", "web-02", "web-03")
    assert expand_ranges("[8:10].x") == ("8.x", "9.x", "10.x")
    assert expand_ranges("[1:5:2]") == ("1", "3", "5")
    assert expand_ranges("[:2]") == ("0", "1", "2")
    assert expand_ranges("db-[a:c]-[1:2]") == ("db-a-1", "db-a-2", "db-b-1", "db-b-2", "db-c-1", "db-c-2")
    assert expand_ranges("plain") == ("plain",)
    assert expand_ranges("[2001:db8::1]") == ("[2001:db8::1]",)
    assert expand_ranges("m[ab]") == ("m[ab]",)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 20))
def test_a_range_is_what_counting_gives(low: int, length: int, step: int) -> None:
    names = expand_ranges(f"m[{low}:{low + length}:{step}]")
    assert names == tuple(f"m{number}" for number in range(low, low + length + 1, step))


@given(st.text(alphabet="[]:019az-", max_size=20))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        count = len(expand_ranges(text))
    except InvalidRange:
        count = -1
    assert count == (1 if not has_range(text) else count) != 0
    assert count <= 10_000


@given(
    st.dictionaries(st.sampled_from(["user", "environment", "location"]), st.sampled_from("abc"), max_size=3),
    st.dictionaries(st.sampled_from(["user", "environment", "location"]), st.sampled_from("abc"), max_size=3),
    st.dictionaries(st.sampled_from(["user", "environment", "location"]), st.sampled_from("abc"), max_size=3),
)
def test_the_nearest_voice_wins(defaults: dict[str, str], group: dict[str, str], own: dict[str, str]) -> None:
    from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
    from inventory.formats.fleet_files import parse_fleet_yaml

    data = {"defaults": defaults, "groups": {"g": group}, "machines": [{"name": "m", "groups": ["g"], **own}]}
    problems = ProblemCollector()
    (draft,) = parse_fleet_yaml(LocatedData(data, {(): SourceLocation(Path("fleet.yaml"), 1)}), problems).drafts
    assert not problems
    expected = {**defaults, **group, **own}
    assert draft.machine.user == expected.get("user")
    assert draft.machine.environment == expected.get("environment", "")
    assert draft.machine.location == expected.get("location", "")
