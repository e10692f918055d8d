"""The Ansible variables that describe the connection, for each connection type.

If several variables have the same meaning, Ansible uses the last one in the list, whatever the place of the others.
The tests compare this table with the declarations of Ansible's connection plugins.
"""

import re

from inventory.formats.ansible.mapping.winrm_variables import TIMEOUT_VARIABLES, WINRM_VARIABLES

CONNECTION_TYPES = {
    "ssh": "ssh",
    "smart": "ssh",
    "paramiko": "paramiko",
    "paramiko_ssh": "paramiko",
    "libssh": "ssh",
    "local": "local",
    "winrm": "winrm",
    "psrp": "psrp",
}
"""Values of ansible_connection, and the connection type of each."""
TRANSPORT_BY_CONNECTION = {"ssh": "ssh", "paramiko": "ssh", "local": "local", "winrm": "winrm", "psrp": "winrm"}
CONNECTION_COLLECTIONS = frozenset({"", "ansible.builtin", "ansible.legacy", "ansible.netcommon"})

_SSH_VARIABLES = {
    "address": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "key": ("ansible_private_key_file", "ansible_ssh_private_key_file"),
    "password": ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
}
CONNECTION_VARIABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "ssh": _SSH_VARIABLES,
    "local": _SSH_VARIABLES,
    "paramiko": {
        "address": (*_SSH_VARIABLES["address"], "ansible_paramiko_host"),
        "port": (*_SSH_VARIABLES["port"], "ansible_paramiko_port"),
        "user": (*_SSH_VARIABLES["user"], "ansible_paramiko_user"),
        "key": (*_SSH_VARIABLES["key"], "ansible_paramiko_private_key_file"),
        "password": (*_SSH_VARIABLES["password"], "ansible_paramiko_pass", "ansible_paramiko_password"),
    },
    "winrm": {
        "address": ("ansible_host", "ansible_winrm_host"),
        "port": ("ansible_port", "ansible_winrm_port"),
        "user": ("ansible_user", "ansible_winrm_user"),
        "key": (),
        "password": ("ansible_password", "ansible_winrm_pass", "ansible_winrm_password"),
    },
    "psrp": {
        "address": ("ansible_host", "ansible_psrp_host"),
        "port": ("ansible_port", "ansible_psrp_port"),
        "user": ("ansible_user", "ansible_psrp_user"),
        "key": (),
        "password": ("ansible_password", "ansible_winrm_pass", "ansible_winrm_password"),
    },
}
BECOME_PASSWORD_VARIABLES = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
SSH_ARGUMENT_VARIABLES = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
"""In the order in which Ansible passes them to ssh. ssh uses the first value of an option."""
OTHER_READ_VARIABLES = ("ansible_connection", "ansible_become_method", "ansible_shell_type")
IRRELEVANT_VARIABLES = frozenset(
    {
        "ansible_become",
        "ansible_group_priority",
        "ansible_pipelining",
        "ansible_python_interpreter",
        "ansible_remote_tmp",
        "ansible_shell_executable",
        "ansible_ssh_pipelining",
        *TIMEOUT_VARIABLES,
    }
)
"""Variables that only affect Ansible's own modules and their speed."""

_DESTINATION_VARIABLE_PATTERN = re.compile(r"ansible_(\w+_)?(host|port|proxy|proxy_command|ssh_executable|remote_addr)")
_ALL_CONNECTION_VARIABLES = frozenset(
    name for options in CONNECTION_VARIABLES.values() for names in options.values() for name in names
)


def may_change_destination(variable: str) -> bool:
    """Return whether a variable that fleetpatch does not read may change which machine is reached."""
    return _DESTINATION_VARIABLE_PATTERN.fullmatch(variable) is not None and variable not in _ALL_CONNECTION_VARIABLES


def is_variable_read(variable: str, connection: str) -> bool:
    """Return whether fleetpatch reads a variable for this connection type, or may ignore it."""
    tables = (CONNECTION_VARIABLES[connection], WINRM_VARIABLES.get(connection, {}))
    used = {name for table in tables for names in table.values() for name in names}
    return (
        variable in {*used, *BECOME_PASSWORD_VARIABLES, *SSH_ARGUMENT_VARIABLES, *OTHER_READ_VARIABLES}
        or variable in IRRELEVANT_VARIABLES
    )
