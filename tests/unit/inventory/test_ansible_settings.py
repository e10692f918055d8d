"""An ansible.cfg beside an inventory: who is reached, and as whom, is a fault unless a variable says the same."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory

SSH = "[web]\na\nb {}\n"
WINDOWS = "[win]\nw ansible_connection=winrm ansible_user=patch fleetpatch_credential=env:WIN\n"


def told(folder: Path, settings: str, hosts: str) -> list[str]:
    (folder / "ansible.cfg").write_text(settings)
    (folder / "hosts").write_text(hosts)
    try:
        load_inventory(folder / "hosts")
    except InvalidInventory as error:
        return [f"{each.message} {each.hint}" for each in error.problems]
    return []


SETTINGS = {
    "[defaults]\nremote_user = patch\n": (
        "ansible_user=patch",
        "fleetpatch_user=patch",
        "ansible_connection=paramiko ansible_paramiko_user=patch",
        "ansible_connection=winrm ansible_winrm_user=patch fleetpatch_credential=env:WIN",
    ),
    "[defaults]\nprivate_key_file = ~/.ssh/fleet\n": (
        "ansible_ssh_private_key_file=/k",
        "ansible_password=\"{{ lookup('env', 'X') }}\"",
        "fleetpatch_credential=key:/k",
    ),
    "[defaults]\nremote_port = 2222\n": ("ansible_port=2222",),
    "[privilege_escalation]\nbecome_method = doas\n": ("ansible_become_method=doas", "fleetpatch_privilege=doas"),
    "[ssh_connection]\nssh_args = -J bastion\n": ("ansible_ssh_args='-o Compression=yes'",),
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_no_variable_says_is_a_fault(tmp_path: Path, settings: str) -> None:
    key, _, value = settings.splitlines()[1].partition(" = ")
    (one,) = told(tmp_path, settings, SSH.format(""))
    assert f"Ansible obeys {key}={value}" in one
    assert "no variable of 'a' says it" in one
    assert "group_vars/all" in one


@pytest.mark.parametrize(
    ("settings", "variable"), [(settings, each) for settings, variables in SETTINGS.items() for each in variables]
)
def test_what_a_variable_of_every_host_says_is_none(tmp_path: Path, settings: str, variable: str) -> None:
    (one,) = told(tmp_path, settings, f"[web]\na {variable}\nb\n")
    assert "no variable of 'b' says it" in one
    assert told(tmp_path, settings, f"[web]\na {variable}\nb {variable}\n") == []


@pytest.mark.parametrize(
    "settings",
    [
        "[defaults]\nremote_port = 22\ntransport = smart\n",
        "[privilege_escalation]\nbecome = true\nbecome_method = sudo\n",
        "[privilege_escalation]\nbecome_method = ansible.builtin.sudo ; the default\n",
        "[ssh_connection]\nssh_args = -o ControlMaster=auto -o ControlPersist=60s\npipelining = True\n",
        "[defaults]\nforks = 20\nhost_key_checking = False\n",
    ],
)
def test_what_changes_nobodys_login_is_none(tmp_path: Path, settings: str) -> None:
    assert told(tmp_path, settings, SSH.format("")) == []


@pytest.mark.parametrize("settings", SETTINGS)
def test_who_is_reached_without_a_login_needs_none(tmp_path: Path, settings: str) -> None:
    assert told(tmp_path, settings, "localhost ansible_connection=local\n") == []


@pytest.mark.parametrize("settings", [each for each in SETTINGS if "remote_user" not in each])
def test_what_is_for_ssh_is_nothing_to_windows(tmp_path: Path, settings: str) -> None:
    assert told(tmp_path, settings, WINDOWS) == []
    (one,) = told(tmp_path, settings, WINDOWS + "[web]\na\n")
    assert "no variable of 'a' says it" in one
