"""The real commands of Ansible, what its plugins declare, and the table of what is not carried over.

The trees of tests/data are asked for with the commands themselves; made-up ones in test_ansible_inventories.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ansible
import pytest
import yaml

from inventory.errors import InvalidInventory
from inventory.formats.ansible.connection_variables import (
    BECOME_PASSWORD_VARIABLES,
    CONNECTION_VARIABLES,
    IRRELEVANT_VARIABLES,
    OTHER_READ_VARIABLES,
    SSH_ARGUMENT_VARIABLES,
    WINRM_VARIABLES,
    is_variable_read,
    may_change_destination,
)
from inventory.loader import load_inventory
from tests.contract.test_ansible_inventories import differences, needs_ssh

DATA = Path(__file__).parents[1] / "data" / "inventories"
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "inventory.md"
TREES = {"ansible_dir": "", "ansible_yaml": "hosts.yml"}


def run(folder: Path, *words: str) -> str:
    """Run one of Ansible's commands, with an ssh that only writes down its words."""
    (folder / "ssh").write_text(
        f"#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done >> {folder}/$$.words\nexit 255\n"
    )
    (folder / "ssh").chmod(0o755)
    program = Path(sys.executable).parent / words[0]
    own = {"ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_SSH_EXECUTABLE": str(folder / "ssh"), "LC_ALL": "C.UTF-8"}
    base = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, env={**base, **own}, cwd=folder, check=False
    )
    assert done.stdout, done.stderr
    return done.stdout


def _said(folder: Path) -> list[list[str]]:
    return [file.read_text().split("\0") for file in folder.glob("*.words")]


@needs_ssh
@pytest.mark.parametrize("tree", TREES)
def test_the_commands_say_what_is_read_here(tmp_path: Path, tree: str) -> None:
    path = DATA / tree / TREES[tree]
    listed = json.loads(run(tmp_path, "ansible-inventory", "-i", str(path), "--list"))
    run(tmp_path, "ansible", "-i", str(path), "all", "-m", "raw", "-a", "true {{ inventory_hostname }}", "-f", "2")
    words = [[*said[:-2], said[-2].removeprefix("true ")] for said in _said(tmp_path)]
    members = {name: set(group.get("hosts", [])) for name, group in listed.items() if name != "_meta"}

    def within(name: str) -> set[str]:
        return members[name].union(*(within(child) for child in listed[name].get("children", [])))

    hosts = {
        each[-1]: {
            "groups": sorted(name for name in set(members) - {"all", "ungrouped"} if each[-1] in within(name)),
            "vars": listed["_meta"]["hostvars"].get(each[-1], {}),
            "ssh": ["ssh", *(word for word in each if word != "-tt")],
        }
        for each in words
    }
    assert len(hosts) > 4
    assert differences(load_inventory(path), {"faults": [], "hosts": hosts}) == []


def declared(kind: str, name: str) -> dict[str, list[str]]:
    """The variables of each option of one of Ansible's plugins, in its own words."""
    text = (Path(ansible.__path__[0]) / "plugins" / kind / f"{name}.py").read_text()
    documented = re.search(r'DOCUMENTATION = r?"""(.*?)"""', text, re.DOTALL)
    assert documented
    options = yaml.safe_load(documented[1])["options"]
    found = {key: [each["name"] for each in option.get("vars", [])] for key, option in options.items()}
    return {key: [name for name in names if name.startswith("ansible_")] for key, names in found.items()}


MEANS = {"host": "address", "remote_addr": "address", "port": "port", "remote_user": "user", "private_key_file": "key"}


@pytest.mark.parametrize(
    ("connection", "plugin"),
    [("ssh", "ssh"), ("paramiko", "paramiko_ssh"), ("winrm", "winrm"), ("psrp", "psrp"), ("local", "local")],
)
def test_every_variable_of_a_connection_has_its_meaning(connection: str, plugin: str) -> None:
    options = declared("connection", plugin)
    for option, key in {**MEANS, "password": "password", "remote_password": "password"}.items():
        if option in options:
            assert list(CONNECTION_VARIABLES[connection][key]) == options[option], option
    silent = [name for names in options.values() for name in names if is_variable_read(name, connection)]
    tables = (CONNECTION_VARIABLES[connection], WINRM_VARIABLES.get(connection, {}))
    known = {name for table in tables for names in table.values() for name in names} | {
        *SSH_ARGUMENT_VARIABLES,
        *OTHER_READ_VARIABLES,
        *IRRELEVANT_VARIABLES,
    }
    assert set(silent) <= known
    moving = {"proxy_command", "proxy", "ssh_executable"}
    assert all(may_change_destination(name) for option in moving & options.keys() for name in options[option])


@pytest.mark.parametrize("connection", WINRM_VARIABLES)
def test_what_is_read_of_winrm_is_what_ansible_reads(connection: str) -> None:
    options = declared("connection", connection).values()
    known = {name for names in options for name in names}
    for names in WINRM_VARIABLES[connection].values():
        # pywinrm takes further variables as its own arguments, by their names
        assert {name for name in names if name not in known} <= EXTRA_ARGUMENTS


EXTRA_ARGUMENTS = {
    "ansible_winrm_ca_trust_path",
    "ansible_winrm_cert_key_pem",
    "ansible_winrm_cert_pem",
    "ansible_winrm_kerberos_hostname_override",
    "ansible_winrm_message_encryption",
    "ansible_winrm_server_cert_validation",
}


def test_become_passwords_are_those_of_sudo() -> None:
    assert list(BECOME_PASSWORD_VARIABLES) == declared("become", "sudo")["become_pass"]


HOSTS = "[web]\na\nb\n"
WINRM_HOST = "a ansible_connection=winrm ansible_user=x ansible_password=\"{{ lookup('env', 'X') }}\""
NOT_CARRIED: dict[str, tuple[dict[str, str], str]] = {
    "a template in a variable of the table above": ({"hosts": "a ansible_host='{{ where }}'\n"}, "template"),
    "a vaulted value in a variable of the table above": (
        {"hosts.yml": "all: {hosts: {a: {ansible_host: !vault x}}}\n"},
        "vaulted",
    ),
    "a file that is vaulted as a whole": ({"hosts": HOSTS, "group_vars/web/v.yml": "$ANSIBLE_VAULT;1.1\n"}, "vaulted"),
    "a program that prints an inventory": ({"hosts": HOSTS, "ec2": "#!/bin/sh\n"}, "Ansible takes this"),
    "the configuration of an inventory plugin": ({"hosts": HOSTS, "x.yml": "plugin: amazon.aws.aws_ec2\n"}, "plugin"),
    "the output of a dynamic inventory": ({"x.json": '{"_meta": {"hostvars": {}}}\n'}, "dynamic inventory"),
    "TOML": ({"hosts": HOSTS, "x.toml": "[web.hosts]\na = {}\n"}, "Ansible takes this"),
    "`vars_plugins/`": ({"hosts": HOSTS, "vars_plugins/x.py": "\n"}, "plugins for variables"),
    "`group_vars/` and `host_vars/` beside playbooks": (
        {"inv/hosts": HOSTS, "site.yml": "[]\n", "group_vars/web.yml": "fleetpatch_owner: manual\n"},
        "beside playbooks",
    ),
    "`ansible.cfg`, where it decides which machine is reached, and as whom": (
        {"hosts": HOSTS, "ansible.cfg": "[defaults]\nremote_port = 2222\n"},
        "remote_port",
    ),
    "an inventory that ends in `.cfg` in a directory": ({"hosts": HOSTS, "x.cfg": "[web]\nc\n"}, ".cfg"),
    "`ansible_connection` of another kind": ({"hosts": "a ansible_connection=docker\n"}, "'docker'"),
    "`ansible_become_method` of another kind": ({"hosts": "a ansible_become_method=su\n"}, "'su'"),
    "a password in plain text": ({"hosts": "a ansible_password=hunter2\n"}, "holds a password"),
    "`ansible_winrm_server_cert_validation: ignore`": (
        {"hosts": f"{WINRM_HOST} ansible_winrm_server_cert_validation=ignore\n"},
        "whose certificate is not checked",
    ),
    "`ansible_winrm_message_encryption: never`": (
        {"hosts": f"{WINRM_HOST} ansible_winrm_message_encryption=never\n"},
        "nothing in the clear",
    ),
    "another variable that may lead elsewhere": ({"hosts": "a ansible_ssh_executable=/x/ssh\n"}, "another machine"),
    "`-p`, `-l`, `-F`, `-W`, `-o Port`, `-o User`, `-o HostName` in arguments for ssh": (
        {"hosts": "a ansible_ssh_args='-p 23'\n"},
        "another place",
    ),
    "several proxies in arguments for ssh": (
        {"hosts": "b\nc\na ansible_ssh_args='-J b' ansible_ssh_extra_args='-J c'\n"},
        "several ways",
    ),
    "a `ProxyCommand` that is no `ssh -W %h:%p HOST`": (
        {"hosts": "a ansible_ssh_common_args='-o ProxyCommand=nc'\n"},
        "no `ssh -W",
    ),
    "a jump host that the inventory reaches otherwise": (
        {"hosts": "b ansible_host=192.0.2.9\na ansible_ssh_common_args='-J b'\n"},
        "by that name",
    ),
    "a value that Ansible reads as something else": ({"x.yml": "all: {hosts: {a: {ansible_port: 022}}}\n"}, "as 18"),
    "a name that YAML takes for a number or a truth": ({"x.yml": "all: {hosts: {12: }}\n"}, "takes this name"),
    "a name of a machine beyond letters, digits, `.` `_` `-`": ({"hosts": "[web]\n2001:db8::1\n"}, "usable name"),
    "a port behind a name that Ansible takes as part of the name": ({"hosts": "web_:22\n"}, "no port"),
    "a host that is named twice, with another address, port or way": (
        {"hosts": "[a]\nvm1 ansible_host=x.org\n[b]\nvm1 ansible_host=y.org\n"},
        "a second time",
    ),
    "a host in no group that is named as a group is": (
        {"x.yml": "all: {hosts: {web: }, children: {web: {hosts: {a: }}}}\n"},
        "is a group and a host",
    ),
    "a group that is named before it is declared in its file, or in one before": (
        {"1.ini": "[site:children]\nweb\n", "2.ini": "[web]\na\n"},
        "not declared",
    ),
    "`all` or `ungrouped` as part of other groups": ({"hosts": "[web:children]\nungrouped\n[web]\na\n"}, "can't stand"),
    "groups in a circle, or more than 100 levels deep": (
        {"hosts": "[a:children]\nb\n[b:children]\na\n"},
        "contains itself",
    ),
    "anything that Ansible warns about and leaves out": ({"x.yml": "all: {host: {a: }}\n"}, "unknown key"),
}


def documented_rows() -> list[str]:
    """The rows of the table of what is not carried over."""
    section = DOCS.read_text(encoding="utf-8").split("### Settings that are not carried over")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_the_table_is_that_of_the_document() -> None:
    assert documented_rows() == list(NOT_CARRIED)


@pytest.mark.parametrize("row", NOT_CARRIED)
def test_what_is_not_carried_is_a_fault(tmp_path: Path, row: str) -> None:
    files, told = NOT_CARRIED[row]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for path in (tmp_path / "inv" if "inv/hosts" in files else tmp_path, tmp_path / next(iter(files))):
        if path.is_dir() or len(files) == 1:
            with pytest.raises(InvalidInventory) as caught:
                load_inventory(path)
            fault = next(each for each in caught.value.problems if told in each.message)
            assert fault.file
            assert fault.hint
            assert "hunter2" not in str(caught.value) + fault.hint


def test_the_owners_word_on_vaulted_files(tmp_path: Path) -> None:
    shutil.copytree(DATA / "ansible_ini", tmp_path / "x")
    load_inventory(tmp_path / "x" / "hosts.ini")
    hosts = (tmp_path / "x" / "hosts.ini").read_text().replace("fleetpatch_vaulted_files=ignore", "")
    (tmp_path / "x" / "hosts.ini").write_text(hosts)
    with pytest.raises(InvalidInventory, match=r"vault\.yml: this file is vaulted as a whole") as caught:
        load_inventory(tmp_path / "x" / "hosts.ini")
    assert "fleetpatch_vaulted_files=ignore" in caught.value.hint
