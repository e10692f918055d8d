"""What is wrong in a fleet.yaml is told with its line, its key and its remedy."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory, InventoryError
from inventory.loader import load_inventory


def faults(path: Path, text: str) -> tuple[InventoryError, ...]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(path)
    return caught.value.problems


def machine(more: str) -> str:
    """A machine in line 2, with one more key in line 3."""
    return f"machines:\n  - name: web-1\n    {more}\n"


# One key of one machine: (what stands in line 3, key, message, remedy)
KEYS = [
    ("transport: shh", "transport", "'shh' is not one of ssh, winrm, local", "Did you mean 'ssh'?"),
    ("transport: [ssh]", "transport", "a list is not one of ssh", "Write one of ssh, winrm, local"),
    ("os: linus", "os", "'linus' is not one of linux, windows", "Did you mean 'linux'?"),
    ("owner: me", "owner", "'me' is not one of fleetpatch, managed, os, manual", "Write one of"),
    ("privilege: sudoo", "privilege", "'sudoo' is not one of auto, root, sudo, doas, broker, none", "'sudo'"),
    ("port: 0", "port", "'0' is out of range", "at least 1"),
    ("port: 65536", "port", "'65536' is out of range", "at most 65535"),
    ("port: -1", "port", "out of range", "at least 1"),
    ("port: ssh", "port", "'ssh' is not a whole number", "Give a whole number"),
    ("port: 22.5", "port", "'22.5' is not a whole number", "Give a whole number"),
    ("port: [22]", "port", "a list is not a whole number", "Give a whole number"),
    ("zone: Europe/Berlim", "zone", "'Europe/Berlim' is no time zone", "Did you mean 'Europe/Berlin'?"),
    ("zone: europe/berlin", "zone", "is no time zone", "Did you mean 'Europe/Berlin'?"),
    ("zone: ../../etc/passwd", "zone", "is no time zone", "IANA name"),
    ("zone: CEST", "zone", "'CEST' is no time zone", "Europe/Berlin or UTC"),
    ("address: 10.0.0.0/33", "address", "'10.0.0.0/33' is no address", "a whole network can't be a machine"),
    ("address: 10.0.0.256", "address", "is no address", "a host name, an IPv4"),
    ("address: root@web", "address", "is no address", "goes under `user`"),
    ("address: web:2222", "address", "is no address", "goes under `port`"),
    ("address: https://web", "address", "is no address", "without a scheme"),
    ("address: web 1", "address", "is no address", "a host name"),
    ("address: -oProxyCommand=x", "address", "is no address", "a host name"),
    ("address: 2001:db8::g", "address", "is no address", "IPv6"),
    ("address: ''", "address", "'' is no address", "a host name"),
    ("user: -l", "user", "is no usable user name", "Give the login name"),
    ("user: ''", "user", "is no usable user name", "Give the login name"),
    ("user: {a: b}", "user", "a map is not text", "Give text"),
    ("credential: hunter2", "credential", "no credential reference", "A secret never stands in an inventory"),
    ("credential: ~/.ssh/id", "credential", "no credential reference", "write key:PATH"),
    ("credential: kee:x", "credential", "no credential reference", "Did you mean 'key'?"),
    ("credential: [hunter2]", "credential", "a list is not text", "Give text"),
    ("privilege_password: hunter2", "privilege_password", "no credential reference", "write a reference"),
    ("privilege_password: agent", "privilege_password", "a password is wanted", "env:NAME, file:PATH"),
    ("privilege_password: key:x", "privilege_password", "a password is wanted", "env:NAME, file:PATH"),
    ("password: hunter2", "password", "unknown key 'password'", "use `credential`"),
    ("sudo_password: hunter2", "sudo_password", "unknown key", "use `credential` or `privilege_password`"),
    ("prot: 22", "prot", "unknown key 'prot'", "Did you mean 'port'?"),
    ("Zone: UTC", "Zone", "unknown key 'Zone'", "Did you mean 'zone'?"),
    ("frobnicate: 1", "frobnicate", "unknown key", "Known keys: port, transport"),
    ("environment: 'a,b'", "environment", "a character that scopes use", "Leave out the characters"),
    ("environment: ' a'", "environment", "no usable label", "no blanks at the ends"),
    ("location: [a]", "location", "a list is not text", "Give text"),
    ("tags: canary", "tags", "'canary' is not a map", "Give a map"),
    ("tags: [a]", "tags", "a list is not a map", "Give a map"),
    ("tags: {ring: 'a*'}", "tags.ring", "a character that scopes use", "Leave out"),
    ("tags: {ring: }", "tags.ring", "nothing is not text", "Give text"),
    ("tags: {'my ring': a}", "tags.my ring", "no usable tag name", "Use letters"),
    ("tags: {a=b: c}", "tags.a=b", "no usable tag name", "Use letters"),
    ("legacy_crypto: maybe", "legacy_crypto", "'maybe' is not true or false", "true or false"),
    ("limits: 5", "limits", "'5' is not a map", "Give a map"),
    ("limits: {reboots: 5}", "limits.reboots", "unknown key 'reboots'", "Did you mean 'max_reboots'?"),
    ("limits: {max_reboots: -1}", "limits.max_reboots", "out of range", "at least 0"),
    ("limits: {max_reboots: 99}", "limits.max_reboots", "out of range", "at most 10"),
    ("limits: {reboot_reserve_minutes: x}", "limits.reboot_reserve_minutes", "not a number", "Give a number"),
    ("limits: {reboot_reserve_minutes: nan}", "limits.reboot_reserve_minutes", "no number", "finite"),
    ("limits: {reboot_timeout_minutes: 0}", "limits.reboot_timeout_minutes", "out of range", "more than 0"),
    ("jump: {a: b}", "jump", "a map is not a list", "Give a list"),
    ("jump: [web-1]", "jump", "can't be its own jump host", "Remove it from `jump`"),
    ("jump: bastion", "jump", "there is no machine 'bastion'", "Jump hosts are machines of this inventory"),
    ("jump: ['../x']", "jump.0", "no usable name", "letters, digits"),
    ("groups: ['a b']", "groups.0", "no usable name", "letters, digits"),
    ("probes: tcp", "probes", "'tcp' is not a list", "Give a list"),
    ("probes: [tcp]", "probes.0", "'tcp' is not a map", "Give a map"),
    ("probes: [{kind: tcp, target: '1'}]", "probes.0", "'name' is missing", "Add `name:`"),
    ("probes: [{name: a, kind: ping, target: x}]", "probes.0.kind", "not one of command, tcp, http", "Write one of"),
    ("probes: [{name: a, kind: tcp, target: db}]", "probes.0", "'db' is no TCP target", "Give host:port"),
    ("probes: [{name: a, kind: tcp, target: 'db:99999'}]", "probes.0", "no TCP target", "Give host:port"),
    ("probes: [{name: a, kind: http, target: db}]", "probes.0", "'db' is no URL", "http:// or https://"),
    ("probes: [{name: a, kind: command, target: ''}]", "probes.0.target", "this is empty", "Give a value"),
    ("probes: [{name: a, kind: command, target: x, level: stop}]", "probes.0.level", "not one of block", "warn"),
    (f"probes: [{{name: a, kind: command, target: {'x' * 16_001}}}]", "probes.0.target", "too long", "at most 16000"),
    ("probes: [{name: a, kind: command, target: x, timeout_seconds: 0}]", "probes.0.timeout_seconds", "range", "more"),
    ("probes: [{name: a, kind: command, target: x, tiemout_seconds: 1}]", "probes.0.tiemout_seconds", "unknown", "Did"),
    ("pre_checks: [&c {name: a, kind: command, target: x}, *c]", "pre_checks", "2 checks are named 'a'", "of its own"),
    ("name: web-2", "name", "the key 'name' stands here twice, first in line 2", "Remove one"),
    ("user: !!python/object:os.system x", "user", "the tag", "plain YAML, without tags"),
    ("user: !vault abc", "user", "the tag '!vault' is not allowed here", "env:NAME"),
    ("credential: !hunter2", "credential", "a tag (!) is not allowed here", "a secret is given as env:NAME"),
    ("? [a]\n    : b", "", "a key must be plain text", "Quote it"),
    ("<<: text", "", "<< takes a map", "alias"),
]


@pytest.mark.parametrize(("more", "key", "message", "remedy"), KEYS, ids=[case[0][:80] for case in KEYS])
def test_a_key_of_a_machine(tmp_path: Path, more: str, key: str, message: str, remedy: str) -> None:
    (fault,) = faults(tmp_path / "fleet.yaml", machine(more))
    assert fault.file == tmp_path / "fleet.yaml"
    assert fault.line == 3 or (key in {"", "jump"} and fault.line == 2)
    assert fault.key == ".".join(part for part in ("machines", "0", key) if part)
    assert message in fault.message
    assert remedy in fault.hint
    assert "hunter2" not in f"{fault} {fault.hint}"


# A whole file: (text, line, key, message, remedy)
FILES = [
    ("", None, None, "this file is empty", "Begin it with `machines:`"),
    ("# nothing\n", None, None, "this file is empty", "Begin it with `machines:`"),
    ("- a\n", 1, None, "an inventory is a map", "Begin it with `machines:`"),
    ("just text\n", 1, None, "an inventory is a map", "Begin it with `machines:`"),
    ("defaults: {}\n", 1, None, "has no machines", "Add `machines:`"),
    ("machines: []\n", None, None, "describes no machine", "Add one under `machines:`"),
    ("machines:\n", 1, None, "has no machines", "Add `machines:`"),
    ("machines: {web: {}}\n", 1, "machines", "`machines` is a list", "- name: ..."),
    ("machines: [[a]]\n", 1, "machines.0", "a map is wanted here, not a list", "Write `name:`"),
    ("machines:\n  - user: x\n", 2, "machines.0", "'name' is missing", "Add `name:`"),
    ("machines: [a]\nmachine: [b]\n", 2, "machine", "unknown key 'machine'", "Did you mean 'machines'?"),
    ("machines: [a]\ndefaults: [x]\n", 2, "defaults", "a map is wanted here, not a list", "Write `port:`"),
    ("machines: [a]\ndefaults:\n  address: x\n", 3, "defaults.address", "unknown key 'address'", "Known keys"),
    ("machines: [a]\ngroups: [x]\n", 2, "groups", "`groups` is a map", "each group's name"),
    ("machines: [a]\ngroups:\n  w:\n    usr: x\n", 4, "groups.w.usr", "unknown key 'usr'", "Did you mean 'user'?"),
    ("machines: [a]\ngroups:\n  'a b':\n", 3, "groups.a b", "'a b' is no usable name", "letters, digits"),
    ("machines:\n- {name: a, groups: wbe}\ngroups: {web: }\n", 2, "machines.0.groups", "no group 'wbe'", "mean 'web'?"),
    ("machines: [a]\nhost_keys: {policy: trust}\n", 2, "host_keys.policy", "not one of pinned, learn, ca", "Write"),
    ("machines: [a]\nhost_keys: {polcy: ca}\n", 2, "host_keys.polcy", "unknown key 'polcy'", "Did you mean 'policy'?"),
    ("machines: [a]\nhost_keys: {known_hosts: ''}\n", 2, "host_keys.known_hosts", "this is empty", "Give a value"),
    ("machines:\n- a\n- a\n", 3, "machines.1.name", "'a' stands here twice, first in fleet.yaml:2", "Remove or rename"),
    ("machines:\n- a\n- A\n", 3, "machines.1.name", "differs from another only in case", "Remove or rename"),
    (
        "machines:\n- a\n- {name: b, address: A}\n",
        3,
        "machines.1",
        "reached just as 'a' in fleet.yaml:2",
        "One machine",
    ),
    (
        "machines:\n- {name: a, transport: local}\n- {name: b, transport: local}\n",
        3,
        "machines.1",
        "just as 'a'",
        "One",
    ),
    ("machines:\n- web-[1:2]\n- web-2\n", 3, "machines.1.name", "stands here twice", "Remove or rename"),
    ("machines:\n- web-[3:1]\n", 2, "machines.0.name", "runs backwards", "[first:last]"),
    ("machines:\n- web-[1:9:0]\n", 2, "machines.0.name", "has no step", "[first:last]"),
    ("machines:\n- web-[1:c]\n", 2, "machines.0.name", "mixes letters and digits", "[first:last]"),
    ("machines:\n- web-[01:100]\n", 2, "machines.0.name", "differ in length", "[first:last]"),
    ("machines:\n- web-[1:99999999999]\n", 2, "machines.0.name", "more than 10,000", "[first:last]"),
    ("machines:\n- a[1:200][1:200]\n", 2, "machines.0.name", "more than 10,000", "[first:last]"),
    ("machines:\n- {name: 'a[1:2]', address: 'b[1:3]'}\n", 2, "machines.0.address", "2 names, but 3", "same length"),
    ("machines:\n- {name: 'a[1:2]', address: b}\n", 2, "machines.0.address", "2 names, but 1", "same length"),
    ("machines:\n- ../etc/passwd\n", 2, "machines.0.name", "is no usable name", "letters, digits"),
    ("machines:\n- ..\n", 2, "machines.0.name", "is no usable name", "letters, digits"),
    ("machines:\n- -rf\n", 2, "machines.0.name", "is no usable name", "beginning with a letter"),
    ("machines:\n- müller\n", 2, "machines.0.name", "is no usable name", "letters, digits"),
    (f"machines:\n- {'a' * 129}\n", 2, "machines.0.name", "is no usable name", "up to 128"),
    ('machines:\n- "a\\nb"\n', 2, "machines.0.name", "is no usable name", "letters, digits"),
    (
        "machines:\n- {name: a, jump: b}\n- {name: b, jump: a}\n",
        2,
        "machines.0.jump",
        "in a circle: a -> b -> a",
        "One of",
    ),
    (
        "machines:\n- {name: a, jump: b}\n- {name: b, transport: winrm}\n",
        2,
        "machines.0.jump",
        "the jump host 'b' is reached by winrm",
        "Jump hosts speak ssh",
    ),
    (
        "machines:\n- {name: a, transport: local, jump: b}\n- b\n",
        2,
        "machines.0.jump",
        "is local and needs no jump host",
        "Remove `jump`",
    ),
    (
        "defaults: {jump: b}\nmachines:\n- a\n- b\n",
        4,
        "machines.1",
        "'b' can't be its own jump host",
        "an empty `jump:`",
    ),
    ("machines: [a\n", 2, None, "this is no valid YAML", "indentation"),
    ("machines:\n\t- a\n", 2, None, "this is no valid YAML", "no tabs"),
    ("machines: [a]\n---\nmachines: [b]\n", 2, None, "this is no valid YAML", "indentation"),
    ("machines: &a\n- *a\n", 1, "machines.0", "this alias contains itself", "Write the value out"),
    ("machines: *hunter2\n", 1, None, "an alias (*) that no anchor", "begin with one of *"),
    ("machines: " + "[" * 200_000, None, None, "nests deeper than 100 levels", "Write it flatter"),
    ("machines:\n  " + "- " * 200_000, None, None, "nests deeper than 100 levels", "Write it flatter"),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "message", "remedy"), FILES, ids=[f"{n}-{case[3][:30]}" for n, case in enumerate(FILES)]
)
def test_a_whole_file(tmp_path: Path, text: str, line: int | None, key: str | None, message: str, remedy: str) -> None:
    found = faults(tmp_path / "fleet.yaml", text)
    fault = next(fault for fault in found if message in fault.message)
    assert (fault.file, fault.line, fault.key) == (tmp_path / "fleet.yaml", line, key)
    assert remedy in fault.hint
    assert "hunter2" not in f"{fault} {fault.hint}"


def test_an_alias_bomb_is_refused_quickly(tmp_path: Path) -> None:
    rows = ["machines: *h", "defaults:", "  a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [f"  {new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefg", "bcdefgh", strict=True)]
    (fault,) = faults(tmp_path / "fleet.yaml", "\n".join([*rows[1:], rows[0]]) + "\n")
    assert "aliases make this file larger than 100,000 values" in fault.message
    assert "`defaults` or `groups`" in fault.hint


def test_everything_is_told_in_one_pass(tmp_path: Path) -> None:
    text = """\
defaults:
  zone: Mars
groups:
  web: {prot: 22}
machines:
  - name: a
    transport: shh
    port: 99999
    jump: nowhere
  - name: b
    jump: c
    groups: [wbe]
  - name: c
    jump: b
  - name: a
  - port: x
host_keys: {policy: trust}
"""
    found = faults(tmp_path / "fleet.yaml", text)
    assert {(fault.line, fault.key) for fault in found} == {
        (2, "defaults.zone"),
        (4, "groups.web.prot"),
        (7, "machines.0.transport"),
        (8, "machines.0.port"),
        (9, "machines.0.jump"),
        (12, "machines.1.groups"),
        (11, "machines.1.jump"),
        (15, "machines.3.name"),
        (16, "machines.4"),
        (16, "machines.4.port"),
        (17, "host_keys.policy"),
    }
    error = InvalidInventory(found)
    assert str(error).startswith(f"{len(found)} faults in the inventory:\n")
    assert f"{tmp_path / 'fleet.yaml'}:7: machines.0.transport: 'shh' is not one of ssh, winrm, local" in str(error)
    assert "    Did you mean 'ssh'?" in str(error)
    assert all(fault.hint for fault in found)


def test_a_file_of_another_kind_does_not_flood(tmp_path: Path) -> None:
    text = "machines:\n" + "".join(f"  - {{name: m{n}, x{n}: 1}}\n" for n in range(1000))
    assert len(faults(tmp_path / "fleet.yaml", text)) == 200


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        (b"machines: [\xff]\n", "no UTF-8 text", "Save it as UTF-8"),
        (b"#" * (10 * 1024 * 1024 + 1), "larger than 10 MiB", "Split it"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n31\n", "vaulted as a whole", "plain text"),
        (b"machines: [\x00]\n", "no valid YAML", "quote values"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str, remedy: str) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidInventory, match=message) as caught:
        load_inventory(path)
    assert remedy in caught.value.hint
    assert caught.value.file == path
