"""Maps the variables of Ansible's connection plugins winrm and psrp to the key ``winrm`` of a machine."""

from inventory.files.problems import ProblemCollector
from inventory.formats.ansible.mapping.machine_entry_builder import MachineEntryBuilder

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


def set_winrm(builder: MachineEntryBuilder, connection: str, problems: ProblemCollector) -> None:
    """Set the key ``winrm`` of a machine, and the credential if it is a client certificate's key."""
    variables = WINRM_VARIABLES.get(connection)
    if variables is None:
        return
    values = {key: builder.read_text(name) for key, names in variables.items() if (name := _find(builder, names))}
    plain = ("path", "ca_file", "client_certificate", "kerberos_hostname")
    settings: dict[str, object] = {key: value for key in plain if (value := values.get(key))}
    _set_scheme(settings, values.get("scheme"), builder)
    source_location = builder.locations[()]
    if (how := values.get("authentication")) is not None:
        name = _find(builder, variables["authentication"]) or ""
        source_location = builder.variables[name].locate()
        first = next(
            (authentication for part in how.split(",") if (authentication := _AUTHENTICATIONS.get(part.strip()))), None
        )
        if first is None:
            problems.add(
                source_location, f"{name} is {how[:80]!r}, which fleetpatch does not know", "Set fleetpatch_winrm."
            )
        else:
            settings["authentication"] = _choose_certificate(first, settings)
    if OWN_VARIABLE not in builder.variables:
        _report_unsafe(builder, variables, values, problems)
    if key := values.get("key"):
        builder.set_key("credential", f"key:{key}", builder.locations[()])
    if settings:
        builder.set_key("winrm", settings, source_location)


def _find(builder: MachineEntryBuilder, names: tuple[str, ...]) -> str | None:
    return builder.find_last_variable(names)


def _set_scheme(settings: dict[str, object], given: str | None, builder: MachineEntryBuilder) -> None:
    """Set the scheme as Ansible finds it: by its variable, or by the port."""
    if given is not None:
        settings["scheme"] = given
    elif str(builder.data.get("port", "")) == _HTTP_PORT:
        settings["scheme"] = "http"


def _choose_certificate(how: str, settings: dict[str, object]) -> str:
    # to pywinrm, "ssl" with a certificate is a login by certificate
    return "certificate" if how == "basic" and "client_certificate" in settings else how


def _report_unsafe(
    builder: MachineEntryBuilder,
    variables: dict[str, tuple[str, ...]],
    said: dict[str, str | None],
    problems: ProblemCollector,
) -> None:
    if said.get("validation") == "ignore":
        name = _find(builder, variables["validation"]) or ""
        message = f"{name} is ignore: fleetpatch sends no password to a machine whose certificate is not checked"
        problems.add(builder.variables[name].locate(), message, _PIN_HINT)
    if said.get("encryption") == "never":
        name = _find(builder, variables["encryption"]) or ""
        message = f"{name} is never: fleetpatch sends nothing in the clear"
        problems.add(builder.variables[name].locate(), message, "Remove it, or use HTTPS.")
