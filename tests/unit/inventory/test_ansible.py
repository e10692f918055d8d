"""Ansible inventories. What the files in tests/data say was compared with ansible-inventory --list of 2.19."""

import logging
from pathlib import Path

import pytest

from inventory.errors import InvalidInventory, InventoryError
from inventory.formats.ansible.ssh_arguments import JumpHostSpec, UnsupportedProxy, parse_ssh_arguments
from inventory.loader import load_inventory
from inventory.machine import Inventory, OsFamily, PrivilegeMethod, TransportKind

DATA = Path(__file__).parents[2] / "data" / "inventories"


def load(tmp_path: Path, text: str, name: str = "hosts.ini") -> Inventory:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return load_inventory(tmp_path / name)


def faults(tmp_path: Path, text: str, name: str = "hosts.ini") -> tuple[InventoryError, ...]:
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, text, name)
    assert "hunter2" not in "".join(f"{fault} {fault.hint}" for fault in caught.value.problems)
    return caught.value.problems


def test_ini(caplog: pytest.LogCaptureFixture) -> None:
    folder = DATA / "ansible_ini"
    inventory = load_inventory(folder / "hosts.ini")
    seen = {
        machine.name: (machine.address, machine.port, machine.user, machine.location, machine.environment)
        for machine in inventory.machines
    }
    everywhere = "from-group-vars-all"
    assert seen == {
        "bastion.example.org": ("bastion.example.org", 22, "jump", everywhere, "from-all"),
        "web-01": ("web-01", None, "deploy", everywhere, "prod"),
        "web-02": ("web-02.internal.example.org", None, "deploy", "from-host-vars", "prod"),
        "web-03": ("web-03", None, "deploy", everywhere, "prod"),
        "web-a.example.org": ("192.0.2.40", 2222, "deploy", everywhere, "from-all"),
        "db-a": ("db.example.org", 22, "dba", everywhere, "from-all"),
        "db-b": ("192.0.2.51", 22, "dba", everywhere, "from-all"),
        "win-1": ("win-1", None, "everybody", everywhere, "from-all"),
    }
    web, db, win = (inventory.find_machine(name) for name in ("web-a.example.org", "db-b", "win-1"))
    assert (web.groups, web.jump, web.tags) == (("prod", "web"), ("bastion.example.org",), {"ring": "canary"})
    assert (web.zone, web.limits.max_reboots, web.probes[0].target) == ("Europe/Berlin", 2, "443")
    assert web.credential == f"key:{folder}/keys/prod"
    assert (db.privilege, db.privilege_password) == (PrivilegeMethod.DOAS, "env:DB_SUDO")
    assert db.tags == {"role": "primary one"}
    assert (win.transport, win.os, win.credential) == (TransportKind.WINRM, OsFamily.WINDOWS, "env:WIN_PASSWORD")
    (message,) = [record.message for record in caplog.records]
    assert "hosts.ini:33: ansible_ssh_common_args" in message
    assert "StrictHostKeyChecking" in message


def test_yaml() -> None:
    inventory = load_inventory(DATA / "ansible_yaml" / "hosts.yml")
    seen = {
        machine.name: (machine.address, machine.port, machine.user, machine.location, machine.groups)
        for machine in inventory.machines
    }
    assert seen == {
        "lonely": ("lonely", None, "everybody", "", ()),
        "web-1": ("web-1", None, "site", "site", ("web", "web_extra", "site")),
        "web-2": ("web-2", None, "web", "web", ("web",)),
        "web-9": ("192.0.2.9", 2222, "web", "web", ("web",)),
        "db-1": ("db-1", None, "site", "db", ("site", "db")),
    }
    assert inventory.find_machine("web-1").environment == "extra"
    assert inventory.find_machine("web-1").tags == {"ring": "broad"}
    assert inventory.find_machine("db-1").jump == ("web-2",)


def test_values_that_only_look_hard(tmp_path: Path) -> None:
    inventory = load(
        tmp_path,
        "[web]\n"
        "a ansible_host='{{ inventory_hostname }}.x' ansible_user='DOMAIN\\me'\n"
        "b fleetpatch_tags=ring=canary,role=web fleetpatch_tag_role=db fleetpatch_limits=\"{'max_reboots': 1}\"\n"
        "c:2200 ansible_connection=paramiko fleetpatch_credential=prefect:login fleetpatch_owner=os\n"
        "d ansible_become_method=ansible.builtin.sudo ansible_shell_type=powershell fleetpatch_jump='a c'\n"
        "e ansible_host=2001:db8::5 ansible_become_method=runas\n"
        "[web:vars]\n"
        'fleetpatch_location = "x # y"\n'
        "ansible_become = true\n",
    )
    a, b, c, d, e = inventory.machines
    assert (a.address, a.user, a.location) == ("a.x", "DOMAIN\\me", "x # y")
    assert (b.tags, b.limits.max_reboots) == ({"ring": "canary", "role": "db"}, 1)
    assert (c.port, c.transport, c.credential, c.owner) == (2200, TransportKind.SSH, "prefect:login", "os")
    assert (d.privilege, d.os, d.jump) == (PrivilegeMethod.SUDO, OsFamily.WINDOWS, ("a", "c"))
    assert (e.address, e.privilege) == ("2001:db8::5", PrivilegeMethod.AUTO)


def test_a_key_wins_over_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = 'a ansible_ssh_private_key_file=~/id ansible_password="{{ lookup(\'ansible.builtin.env\', \\"X\\") }}"\n'
    assert load(tmp_path, text).machines[0].credential == "key:~/id"
    assert "the password is not" in caplog.text


def test_what_is_not_used_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, "a\nb\n[all:vars]\nansible_ssh_timeout=5\nansible_python_interpreter=/x\nanything=else\n")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "hosts.ini:4: ansible_ssh_timeout is not used by fleetpatch" in record.message


def test_a_bare_hosts_file(tmp_path: Path) -> None:
    assert load(tmp_path, "# ours\n[web]\na\n", "hosts").machines[0].groups == ("web",)
    assert load(tmp_path, "---\nall:\n  hosts:\n    b:\n", "inventory").machines[0].name == "b"
    assert load(tmp_path, "web:\n  hosts:\n    c:\n", "other").machines[0].groups == ("web",)


INI = [
    ("[web\na\n", 1, None, "this line is no section", "Write [group]"),
    ("[web:childs]\n", 1, None, "of the kind 'childs'", "Did you mean 'children'?"),
    ("[we b]\n", 1, None, "is no section", "Write [group]"),
    ("[a:vars]\nx=1\n", 1, None, "the group 'a' is not declared", "Add a section [a]"),
    ("[a:children]\nb\n", 2, None, "the group 'b' is not declared", "Add a section [b]"),
    ("[a:children]\nb\n[b:children]\na\n", 4, None, "the group 'a' contains itself, by way of 'b'", "Take one"),
    ("[a]\nx\n[a:vars]\nnothing\n", 4, None, "this is no variable", "name=value"),
    ("a user hunter2\n", 1, None, "a word here is no variable", "quote values with blanks"),
    ("a x='hunter2\n", 1, None, "can't be split", "Close the quotes"),
    ("web-[3:1]\n", 1, None, "runs backwards", "[first:last]"),
    ("[g]\n2001:db8::1\n", 2, None, "is no usable name", "letters, digits"),
    ("[bad/group]\na\n", 2, "groups.0", "is no usable name", "letters, digits"),
    ("a ansible_port=x\n", 1, "ansible_port", "'x' is not a whole number", "Give a whole number"),
    ("a:99999\n", 1, "port", "out of range", "at most 65535"),
    ("a ansible_host=1.2.3.4/8\n", 1, "ansible_host", "is no address", "a whole network"),
    ("a ansible_connection=docker\n", 1, "ansible_connection", "'docker', which fleetpatch does not", "Set fleetpatch"),
    ("a ansible_become_method=su\n", 1, "ansible_become_method", "'su', which fleetpatch does not", "sudo and doas"),
    ("a ansible_password=hunter2\n", 1, "ansible_password", "holds a password", "lookup('env', 'NAME')"),
    ("a ansible_become_pass=hunter2\n", 1, "ansible_become_pass", "holds a password", "fleetpatch_privilege_password"),
    ("a ansible_ssh_pass='{{ v }}'\n", 1, "ansible_ssh_pass", "is a template", "fleetpatch_credential to env:NAME"),
    ("a ansible_user='{{ who }}'\n", 1, "ansible_user", "is a template", "ansible-inventory -i FILE --list --yaml"),
    ("a ansible_host='{% if x %}y{% endif %}'\n", 1, "ansible_host", "is a template", "Write the value itself"),
    ("a fleetpatch_zone=Mars\n", 1, "fleetpatch_zone", "'Mars' is no time zone", "IANA name"),
    ("a fleetpatch_zoen=UTC\n", 1, "fleetpatch_zoen", "unknown variable", "Did you mean 'fleetpatch_zone'?"),
    ("a fleetpatch_limits='{x'\n", 1, "fleetpatch_limits", "is no map or list", "as Python has it"),
    ("a fleetpatch_tags=canary\n", 1, "fleetpatch_tags", "'canary' is not a map", "Give a map"),
    ("a fleetpatch_owner=me\n", 1, "fleetpatch_owner", "'me' is not one of fleetpatch", "Write one of"),
    ("a fleetpatch_credential=hunter2\n", 1, "fleetpatch_credential", "no credential reference", "A secret never"),
    ("a ansible_ssh_common_args='-J b'\n", 1, "ansible_ssh_common_args", "no machine 'b'", "Jump hosts are machines"),
    ("a ansible_ssh_common_args='-J \"b'\n", 1, "ansible_ssh_common_args", "can't be split", "Use -J HOST"),
    ("a ansible_ssh_common_args='-o ProxyCommand=nc'\n", 1, "ansible_ssh_common_args", "no `ssh -W", "Use -J HOST"),
    (
        "b\na ansible_ssh_common_args='-J u@b'\n",
        2,
        "ansible_ssh_common_args",
        "user 'u' is not that of 'b'",
        "ansible_user=u",
    ),
    (
        "b\na ansible_ssh_common_args='-J b:23'\n",
        2,
        "ansible_ssh_common_args",
        "port '23' is not that",
        "ansible_port=23",
    ),
    ("#!/bin/sh\necho\n", None, None, "this is a program", "ansible-inventory -i FILE --list --yaml"),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "message", "remedy"), INI, ids=[f"{n}-{case[3][:30]}" for n, case in enumerate(INI)]
)
def test_ini_faults(tmp_path: Path, text: str, line: int | None, key: str | None, message: str, remedy: str) -> None:
    fault = next(fault for fault in faults(tmp_path, text) if message in fault.message)
    assert (fault.file, fault.line) == (tmp_path / "hosts.ini", line)
    assert fault.key == key or (fault.key or "").startswith(f"{key}.")
    assert remedy in fault.hint


YAML = [
    ("all: {host: {a: }}\n", 1, "all.host", "unknown key 'host' in a group", "Did you mean 'hosts'?"),
    ("all: {hosts: [a]}\n", 1, "all.hosts", "hosts must be a map", "line of its own"),
    ("all: [a]\n", 1, "all", "must be a map here", "line of its own"),
    ("all: {children: {w: {vars: [x]}}}\n", 1, "all.children.w.vars", "variables must be a map", "line of its own"),
    ("all: {hosts: {a: x}}\n", 1, "all.hosts.a", "variables must be a map", "line of its own"),
    ("all:\n  hosts:\n    a:\n      ansible_port: x\n", 4, "all.hosts.a.ansible_port", "not a whole number", "Give a"),
    ("all:\n  hosts:\n    a:\n    a:\n", 4, "all.hosts.a", "stands here twice, first in line 3", "Remove one"),
    (
        "all: {hosts: {a: {ansible_password: !vault x}}}\n",
        1,
        "all.hosts.a.ansible_password",
        "is vaulted",
        "lookup('env'",
    ),
    ("all: {hosts: {a: {ansible_host: !vault x}}}\n", 1, "all.hosts.a.ansible_host", "is vaulted", "in plain text"),
    ("all: {hosts: {a: {x: !!python/name:os.x y}}}\n", 1, "all.hosts.a.x", "the tag", "plain YAML"),
    ("all: {children: {a: {children: {a: }}}}\n", 1, "all.children.a.children.a", "contains itself", "Take one"),
    ("plugin: amazon.aws.aws_ec2\n", None, None, "configuration of an inventory plugin", "ansible-inventory"),
    ("_meta: {hostvars: {}}\n", None, None, "output of a dynamic inventory", "ansible-inventory"),
]


@pytest.mark.parametrize(("text", "line", "key", "message", "remedy"), YAML, ids=[case[3] for case in YAML])
def test_yaml_faults(tmp_path: Path, text: str, line: int | None, key: str | None, message: str, remedy: str) -> None:
    fault = next(fault for fault in faults(tmp_path, text, "hosts.yml") if message in fault.message)
    assert (fault.file, fault.line, fault.key) == (tmp_path / "hosts.yml", line, key)
    assert remedy in fault.hint


def test_a_fault_in_group_vars_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "web.yml").write_text("---\nansible_port: 99999\n")
    (fault,) = faults(tmp_path, "[web]\na\nb\n")  # once, though two hosts have it
    assert (fault.file, fault.line, fault.key) == (tmp_path / "group_vars" / "web.yml", 2, "ansible_port")


def test_vars_files_that_cant_be_read(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "a.yml").write_text("- list\n")
    (tmp_path / "host_vars" / "b.yml").write_text("x: [\n")
    found = faults(tmp_path, "a\nb\n")
    assert [(fault.file.name if fault.file else "") for fault in found] == ["a.yml", "b.yml"]
    assert "variables must be a map" in found[0].message
    assert "no valid YAML" in found[1].message


@pytest.mark.parametrize(
    ("text", "jumps"),
    [
        ("-C", None),
        ("-J b", (JumpHostSpec("b"),)),
        ("-Jb", (JumpHostSpec("b"),)),
        ("-4qJ b", (JumpHostSpec("b"),)),
        ("-J u@b:22,c", (JumpHostSpec("b", "u", 22), JumpHostSpec("c"))),
        ("-J ssh://u@b:22", (JumpHostSpec("b", "u", 22),)),
        ("-J [2001:db8::1]:22", (JumpHostSpec("2001:db8::1", None, 22),)),
        ("-o ProxyJump=b", (JumpHostSpec("b"),)),
        ("-oProxyJump=b", (JumpHostSpec("b"),)),
        ("-o 'ProxyJump b'", (JumpHostSpec("b"),)),
        ("-o proxyjump=none", ()),
        ("-o ProxyCommand='ssh -W %h:%p b'", (JumpHostSpec("b"),)),
        ("-o ProxyCommand='ssh -q -W [%h]:%p -p 2222 -l u b'", (JumpHostSpec("b", "u", 2222),)),
        (
            "-o ProxyCommand='/usr/bin/ssh -o StrictHostKeyChecking=no -J a u@b -W %h:%p'",
            (JumpHostSpec("a"), JumpHostSpec("b", "u")),
        ),
        ("-o ProxyCommand=none", ()),
    ],
)
def test_jumps_in_ssh_arguments(text: str, jumps: tuple[JumpHostSpec, ...] | None) -> None:
    assert parse_ssh_arguments(text).jump_routes == (() if jumps is None else (jumps,))


@pytest.mark.parametrize(
    "text",
    [
        "-o ProxyCommand='nc %h %p'",
        "-o ProxyCommand='ssh b'",
        "-o ProxyCommand='ssh -W %h:%p b c'",
        "-o ProxyCommand='ssh -W %h:%p -i key b'",
        "-o ProxyCommand='ssh -W %h:%p -F config b'",
        "-o ProxyCommand='ssh -W other:22 b'",
        "-o ProxyCommand='ssh -o ProxyJump=c -W %h:%p b'",
        "-o ProxyCommand='ssh -o Port=2222 -W %h:%p b'",
        "-o ProxyCommand='ssh -l a -W %h:%p c@b'",
        f"-o ProxyCommand='ssh -p {'9' * 5000} -W %h:%p b'",
        f"-J b:{'9' * 5000}",
        "-o ProxyCommand=",
        "-J",
        "-J 'a b'",
        "-J 'a",
    ],
)
def test_other_proxies_are_refused(text: str) -> None:
    with pytest.raises(UnsupportedProxy):
        parse_ssh_arguments(text)


def test_what_ssh_arguments_are_not_used_is_known() -> None:
    args = parse_ssh_arguments("-C -o ControlMaster=auto -o ControlPersist=60s -4")
    assert args.unused == ("-C", "-o ControlMaster", "-o ControlPersist", "-4")


@pytest.mark.parametrize(
    "text", ["-p 23", "-qp23", "-l me", "-F x", "-W a:1", "-o Port=23", "-oUser=x", "-o 'hostname x'", "w"]
)
def test_what_leads_elsewhere_is_known(text: str) -> None:
    assert len(parse_ssh_arguments(text).destination_overrides) == 1


TWICE = {
    "address": ("hosts.ini", "[a]\nvm1 ansible_host=vm001.example.org\n[b]\nvm1 ansible_host=vm888.example.org\n", 4),
    "port after the name": ("hosts.ini", "[a]\n10.0.0.1:1222\n[b]\n10.0.0.1:9322\n", 4),
    "port that only the second has": ("hosts.ini", "[a]\nvm1\n[b]\nvm1:9322\n", 4),
    "port": ("hosts.ini", "[a]\nvm1 ansible_port=22\n[b]\nvm1 ansible_port=2222\n", 4),
    "range": ("hosts.ini", "[a]\nvm[1:3] ansible_port=22\n[b]\nvm2 ansible_port=2222\n", 4),
    "address for fleetpatch": (
        "hosts.ini",
        "[a]\nvm1 fleetpatch_address=x.org\n[b]\nvm1 fleetpatch_address=y.org\n",
        4,
    ),
    "way": (
        "hosts.ini",
        "[a]\nvm1 ansible_ssh_common_args='-J x.org'\n[b]\nvm1 ansible_ssh_common_args='-J y.org'\n",
        4,
    ),
    "YAML": (
        "hosts.yml",
        "a:\n  hosts:\n    vm1: {ansible_host: x.org}\nb:\n  hosts:\n    vm1:\n      ansible_host: y.org\n",
        7,
    ),
    "YAML, port": ("hosts.yml", "a:\n  hosts:\n    10.0.0.1:1222:\nb:\n  hosts:\n    10.0.0.1:9322:\n", 6),
}


@pytest.mark.parametrize("case", TWICE)
def test_one_name_with_two_addresses_is_refused(tmp_path: Path, case: str) -> None:
    name, text, line = TWICE[case]
    (fault,) = [found for found in faults(tmp_path, text, name) if "a second time" in found.message]
    assert "is here a second time, with another " in fault.message
    assert f"{name}:{line}" in str(fault)
    assert fault.hint == "Give each machine a name of its own, and its address as ansible_host."


def test_two_files_with_one_name_and_two_addresses_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.ini").write_text("[a]\nvm1 ansible_host=x.org\n")
    (tmp_path / "2.yml").write_text("b:\n  hosts:\n    vm1: {ansible_host: y.org}\n")
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(tmp_path)
    (fault,) = caught.value.problems
    assert "2.yml:3: " in str(fault)
    assert str(fault).endswith("the host 'vm1' is here a second time, with another ansible_host than in 1.ini:2")


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("[a]\nvm1 ansible_host=x.org\n[b]\nvm1 ansible_host=x.org\n", "x.org", None),
        ("[a]\nvm1 ansible_host=x.org\n[b]\nvm1\n", "x.org", None),
        ("[a]\nvm1\n[b]\nvm1 ansible_host=x.org\n", "x.org", None),
        ("[a]\nvm1:2222\n[b]\nvm1\n[c]\nvm1:2222 ansible_user=x\n", "vm1", 2222),
        ("[a]\nvm1 ansible_user=x\n[b]\nvm1 ansible_user=y\n", "vm1", None),
        ("[a]\nvm1\n[b:children]\na\n[a:vars]\nansible_host=x.org\n[b:vars]\nansible_host=y.org\n", "x.org", None),
    ],
)
def test_a_host_in_several_groups_is_one_machine(tmp_path: Path, text: str, address: str, port: int | None) -> None:
    (machine,) = load(tmp_path, text).machines
    assert (machine.address, machine.port) == (address, port)
