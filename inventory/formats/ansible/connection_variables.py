"""The Ansible variables that describe the connection, for each connection type, and the keys that are set from them.

If several variables have the same meaning, Ansible uses the last one in the list, whatever the place of the others.
The tests compare this table with the declarations of Ansible's connection plugins.
"""

from collections.abc import Callable, Sequence

from inventory.files.problems import KeyPath, ProblemCollector, SourceLocation
from inventory.formats.ansible.inventory_tree import DESTINATION_VARIABLE_PATTERN, Variables
from inventory.formats.ansible.variable_values import UnreadableValue, parse_secret_reference, resolve_value


class MachineEntryBuilder:
    """The variables of one host, and the keys that are set from them."""

    def __init__(self, name: str, place: SourceLocation, variables: Variables, problems: ProblemCollector) -> None:
        self.name = name
        self.variables = variables
        self.data: dict[str, object] = {}
        self.locations: dict[KeyPath, SourceLocation] = {(): place}
        self._problems = problems

    def set_key(self, key: str, value: object, place: SourceLocation) -> None:
        """Set a key and its place."""
        self.data[key] = value
        self.locations[key,] = place

    def read_value(self, variable: str) -> object:
        """Return the value of a variable; None if it is not set or unreadable. An unreadable value is reported."""
        if variable not in self.variables:
            return None
        try:
            value = resolve_value(self.variables[variable], self.name, variable)
            if variable.startswith("ansible_") and not isinstance(value, str | None):
                raise UnreadableValue(f"{variable} is no text", "Write a text or a number.")
        except UnreadableValue as error:
            self._problems.add(self.variables[variable].locate(), str(error), error.hint)
            return None
        return value

    def read_text(self, variable: str | None) -> str | None:
        """Return the text of a variable, or None."""
        value = self.read_value(variable) if variable else None
        return value if isinstance(value, str) else None

    def find_last_variable(self, variables: Sequence[str]) -> str | None:
        """Return the last of these variables that has a value. Ansible uses that one."""
        return next((variable for variable in reversed(variables) if self.read_value(variable) is not None), None)

    def set_from_last_variable(self, variables: Sequence[str], key: str, convert: Callable[[object], object]) -> None:
        """Set a key from the last of these variables that has a value."""
        variable = self.find_last_variable(variables)
        if variable is not None:
            location = self.variables[variable].locate()
            try:
                self.set_key(key, convert(self.read_value(variable)), location)
            except UnreadableValue as error:
                self._problems.add(location, str(error), error.hint)

    def set_secret_reference(self, variables: Sequence[str], key: str, replacement_variable: str) -> None:
        """Set a key to the credential reference of the last password variable that has a value."""
        for variable in variables:
            if variable in self.variables:
                location = self.variables[variable].locate()
                try:
                    reference = parse_secret_reference(self.variables[variable], variable, replacement_variable)
                except UnreadableValue as error:
                    self._problems.add(location, str(error), error.hint)
                else:
                    if reference is not None:
                        self.set_key(key, reference, location)

    def set_choice(self, variable: str, key: str, value: str | None, given: str, hint: str) -> None:
        """Set a key to a known choice. Report an unknown one."""
        location = self.variables[variable].locate()
        if value is None:
            self._problems.add(location, f"{variable} is {given[:80]!r}, which fleetpatch does not know", hint)
        else:
            self.set_key(key, value, location)

    def set_tag(self, name: str, variable: str, place: SourceLocation) -> None:
        """Set one tag."""
        text = self.read_text(variable)
        if text is not None:
            tags = self.data.get("tags")
            self.set_key("tags", {**(tags if isinstance(tags, dict) else {}), name: text}, place)


OWN_VARIABLE = "fleetpatch_winrm"
WINRM_VARIABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "winrm": {
        "authentication": ("ansible_winrm_transport",),
        "scheme": ("ansible_winrm_scheme",),
        "path": ("ansible_winrm_path",),
        "ca_file": ("ansible_winrm_ca_trust_path",),
        "validation": ("ansible_winrm_server_cert_validation",),
        "client_certificate": ("ansible_winrm_cert_pem",),
        "key": ("ansible_winrm_cert_key_pem",),
        "kerberos_hostname": ("ansible_winrm_kerberos_hostname_override",),
        "encryption": ("ansible_winrm_message_encryption",),
    },
    "psrp": {
        "authentication": ("ansible_psrp_auth",),
        "scheme": ("ansible_psrp_protocol",),
        "path": ("ansible_psrp_path",),
        "ca_file": ("ansible_psrp_cert_trust_path", "ansible_psrp_ca_cert"),
        "validation": ("ansible_psrp_cert_validation",),
        "client_certificate": ("ansible_psrp_certificate_pem",),
        "key": ("ansible_psrp_certificate_key_pem",),
        "kerberos_hostname": ("ansible_psrp_negotiate_hostname_override",),
        "encryption": ("ansible_psrp_message_encryption",),
    },
}
"""The variables of each connection type by what they say. Ansible uses the last one that is set."""
TIMEOUT_VARIABLES = frozenset(
    {
        "ansible_psrp_connection_timeout",
        "ansible_psrp_operation_timeout",
        "ansible_psrp_read_timeout",
        "ansible_winrm_connection_timeout",
        "ansible_winrm_operation_timeout_sec",
        "ansible_winrm_read_timeout_sec",
    }
)
_AUTHENTICATIONS = {
    "basic": "basic",
    "certificate": "certificate",
    "credssp": "credssp",
    "kerberos": "kerberos",
    "negotiate": "ntlm",
    "ntlm": "ntlm",
    "plaintext": "basic",
    "ssl": "basic",
}
_HTTP_PORT = "5985"
_PIN_HINT = (
    "Set fleetpatch_winrm={certificate_thumbprint: ...} to the SHA-256 of the machine's certificate, or the variable "
    "to validate with a CA file."
)
_UNSAFE_VALUES = (
    ("validation", "ignore", "no password to a machine whose certificate is not checked", _PIN_HINT),
    ("encryption", "never", "nothing in the clear", "Remove it, or use HTTPS."),
)


def set_winrm(builder: MachineEntryBuilder, connection: str, problems: ProblemCollector) -> None:
    """Set the key ``winrm`` of a machine, and the credential if it is a client certificate's key."""
    if connection not in WINRM_VARIABLES:
        return
    variables = WINRM_VARIABLES[connection].items()
    names = {key: name for key, candidates in variables if (name := builder.find_last_variable(candidates))}
    values = {key: builder.read_text(name) for key, name in names.items()}
    plain = ("path", "ca_file", "client_certificate", "kerberos_hostname")
    settings: dict[str, object] = {key: values[key] for key in plain if values.get(key)}
    default_scheme = {"scheme": "http"} if str(builder.data.get("port", "")) == _HTTP_PORT else {}
    settings |= {"scheme": values["scheme"]} if "scheme" in names else default_scheme
    location = builder.locations[()]
    if (text := values.get("authentication")) is not None:
        location = builder.variables[names["authentication"]].locate()
        options = [_AUTHENTICATIONS[part.strip()] for part in text.split(",") if part.strip() in _AUTHENTICATIONS]
        if not options:
            message = f"{names['authentication']} is {text[:80]!r}, which fleetpatch does not know"
            problems.add(location, message, "Set fleetpatch_winrm.")
        elif options[0] == "basic" and "client_certificate" in settings:
            settings["authentication"] = "certificate"  # as pywinrm reads "ssl" with a certificate
        else:
            settings["authentication"] = options[0]
    for key, unsafe_value, consequence, hint in _UNSAFE_VALUES if OWN_VARIABLE not in builder.variables else ():
        if values.get(key) == unsafe_value:
            message = f"{names[key]} is {unsafe_value}: fleetpatch sends {consequence}"
            problems.add(builder.variables[names[key]].locate(), message, hint)
    if key_path := values.get("key"):
        builder.set_key("credential", f"key:{key_path}", builder.locations[()])
    if settings:
        builder.set_key("winrm", settings, location)


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

_ALL_CONNECTION_VARIABLES = frozenset(
    name for options in CONNECTION_VARIABLES.values() for names in options.values() for name in names
)


def may_change_destination(variable: str) -> bool:
    """Return whether a variable that fleetpatch does not read may change which machine is reached."""
    return DESTINATION_VARIABLE_PATTERN.fullmatch(variable) is not None and variable not in _ALL_CONNECTION_VARIABLES


def is_variable_read(variable: str, connection: str) -> bool:
    """Return whether fleetpatch reads a variable for this connection type, or may ignore it."""
    tables = (CONNECTION_VARIABLES[connection], WINRM_VARIABLES.get(connection, {}))
    read_variables = {name for table in tables for names in table.values() for name in names}
    return (
        variable in {*read_variables, *BECOME_PASSWORD_VARIABLES, *SSH_ARGUMENT_VARIABLES, *OTHER_READ_VARIABLES}
        or variable in IRRELEVANT_VARIABLES
    )
