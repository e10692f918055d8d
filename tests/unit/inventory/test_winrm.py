"""How a machine is reached over WinRM: what an inventory says, what contradicts itself, and Ansible's variables."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory, InventoryError
from inventory.loader import load_inventory
from inventory.machine import (
    Inventory,
    Machine,
    OsFamily,
    TransportKind,
    WinrmAuthentication,
    WinrmScheme,
    WinrmSettings,
)

LOGIN = "transport: winrm, user: u, credential: 'env:P'"


def load(folder: Path, text: str, name: str = "fleet.yaml") -> Inventory:
    (folder / name).write_text(text)
    return load_inventory(folder / name)


def one(folder: Path, entry: str) -> Machine:
    return load(folder, f"machines:\n  - {{name: w, {entry}}}\n").machines[0]


def problem(folder: Path, entry: str) -> InventoryError:
    with pytest.raises(InvalidInventory) as caught:
        one(folder, entry)
    (only,) = caught.value.problems
    assert only.line == 2
    return only


def test_a_machine_over_winrm_is_windows_and_everything_has_a_safe_default(tmp_path):
    machine = one(tmp_path, LOGIN)
    assert (machine.transport, machine.os, machine.port) == (TransportKind.WINRM, OsFamily.WINDOWS, None)
    assert machine.winrm == WinrmSettings(WinrmScheme.HTTPS, WinrmAuthentication.NTLM)


def test_all_settings_and_their_places(tmp_path):
    sha256 = "AB:" * 31 + "ab"
    winrm = (
        f"ca_file: ca/root.pem, certificate_thumbprint: ['{sha256}', '\u200e01 23 45 67 89 {'0' * 30}'], path: /w/x/"
    )
    machine = one(tmp_path, f"{LOGIN}, winrm: {{{winrm}, authentication: credssp}}")
    assert machine.winrm == WinrmSettings(
        authentication=WinrmAuthentication.CREDSSP,
        ca_file=tmp_path / "ca/root.pem",
        certificate_thumbprint=("ab" * 32, "0123456789" + "0" * 30),
        path="w/x",
    )
    machine = one(
        tmp_path,
        "transport: winrm, credential: 'key:me.key', "
        "winrm: {authentication: certificate, client_certificate: ~/me.pem, certificate_thumbprint: " + "0" * 64 + "}",
    )
    assert machine.winrm.client_certificate == Path("~/me.pem")
    assert machine.credential == f"key:{tmp_path}/me.key"
    machine = one(tmp_path, "transport: winrm, winrm: {authentication: kerberos, kerberos_hostname: w.example.org}")
    assert (machine.user, machine.winrm.kerberos_hostname) == (None, "w.example.org")


def test_levels_are_merged_key_by_key(tmp_path):
    text = f"""
defaults: {{{LOGIN}, winrm: {{ca_file: ca.pem, authentication: basic}}}}
groups: {{old: {{winrm: {{authentication: ntlm, path: old}}}}}}
machines:
  - a
  - {{name: b, groups: [old], winrm: {{path: , scheme: https}}}}
  - {{name: c, groups: [old], winrm: }}
"""
    a, b, c = (machine.winrm for machine in load(tmp_path, text).machines)
    ca_file = tmp_path / "ca.pem"
    assert a == WinrmSettings(ca_file=ca_file, authentication=WinrmAuthentication.BASIC)
    assert b == WinrmSettings(ca_file=ca_file)
    assert c == WinrmSettings()


CONTRADICTIONS = {
    "transport: winrm, credential: 'env:P'": ("user", "authentication ntlm needs a user", "DOMAIN"),
    "transport: winrm, user: u": ("credential", "authentication ntlm needs a password", "env:NAME"),
    "transport: winrm, user: u, credential: 'key:k'": ("credential", "needs a password", "env:NAME"),
    f"{LOGIN}, os: linux": ("os", "only Windows is reached over winrm", "ssh"),
    f"{LOGIN}, winrm: {{scheme: http, authentication: basic}}": ("winrm", "can't encrypt", "scheme: https"),
    f"{LOGIN}, winrm: {{scheme: http, ca_file: x}}": ("winrm", "shows no certificate", "scheme: https"),
    f"{LOGIN}, winrm: {{authentication: kerberos}}": ("credential", "tickets", "kinit"),
    "transport: winrm, user: 'CORP\\patch', winrm: {authentication: kerberos}": ("user", "takes no user", "NAME@REALM"),
    "transport: winrm, credential: 'key:k', winrm: {authentication: certificate}": (
        "winrm",
        "needs a certificate",
        "client_certificate",
    ),
    f"{LOGIN}, winrm: {{authentication: certificate, client_certificate: x}}": (
        "credential",
        "private key",
        "key:PATH",
    ),
    f"{LOGIN}, winrm: {{certificate_thumbprint: abc}}": ("winrm", "is no thumbprint", "SHA-256"),
    f"{LOGIN}, winrm: {{path: 'https://x'}}": ("winrm", "is no path", "wsman"),
    f"{LOGIN}, winrm: {{scheme: ftp}}": ("winrm", "'ftp' is not one of https, http", "Write one of"),
    f"{LOGIN}, winrm: {{verify: false}}": ("winrm", "unknown key 'verify'", "ca_file"),
    f"{LOGIN}, winrm: {{password: hunter2}}": ("winrm", "unknown key 'password'", "credential"),
}


@pytest.mark.parametrize("entry", CONTRADICTIONS)
def test_what_contradicts_itself_is_told_with_its_remedy(tmp_path, entry):
    key, message, hint = CONTRADICTIONS[entry]
    found = problem(tmp_path, entry)
    assert message in found.message
    assert hint in found.hint
    assert key in f"{found.key}: {found.hint}"  # a key that is missing has no place of its own
    assert "hunter2" not in f"{found}{found.hint}"


def test_winrm_goes_through_no_jump_host(tmp_path):
    text = f"machines:\n  - {{name: w, {LOGIN}, jump: j}}\n  - {{name: j, owner: manual}}\n"
    with pytest.raises(InvalidInventory, match="goes through no jump host"):
        load(tmp_path, text)


def test_the_settings_of_winrm_are_nothing_to_ssh(tmp_path):
    machine = one(tmp_path, "winrm: {scheme: http, authentication: basic}")
    assert (machine.transport, machine.os) == (TransportKind.SSH, OsFamily.LINUX)


SECRET = "\"{{ lookup('env', 'P') }}\""
ANSIBLE = {
    "ansible_connection=winrm": WinrmSettings(),
    "ansible_connection=winrm ansible_port=5985": WinrmSettings(WinrmScheme.HTTP),
    "ansible_connection=winrm ansible_port=5985 ansible_winrm_scheme=https": WinrmSettings(),
    "ansible_connection=psrp ansible_psrp_protocol=http ansible_psrp_auth=negotiate": WinrmSettings(WinrmScheme.HTTP),
    "ansible_connection=winrm ansible_winrm_transport=credssp": WinrmSettings(
        authentication=WinrmAuthentication.CREDSSP
    ),
    "ansible_connection=winrm ansible_winrm_transport=ssl ansible_winrm_path=/proxy/wsman": WinrmSettings(
        authentication=WinrmAuthentication.BASIC, path="proxy/wsman"
    ),
    "ansible_connection=winrm ansible_winrm_ca_trust_path=/etc/ca.pem ansible_winrm_read_timeout_sec=70": WinrmSettings(
        ca_file=Path("/etc/ca.pem")
    ),
    "ansible_connection=psrp ansible_psrp_cert_trust_path=/etc/ca.pem ansible_psrp_auth=basic": WinrmSettings(
        ca_file=Path("/etc/ca.pem"), authentication=WinrmAuthentication.BASIC
    ),
    "ansible_connection=winrm ansible_winrm_server_cert_validation=ignore "
    f"fleetpatch_winrm=\"{{'certificate_thumbprint': '{'0' * 64}'}}\" ansible_winrm_path=x": WinrmSettings(
        certificate_thumbprint=("0" * 64,), path="x"
    ),
}


@pytest.mark.parametrize("variables", ANSIBLE)
def test_ansibles_variables_are_mapped(tmp_path, variables, caplog):
    machine = load(tmp_path, f"w {variables} ansible_user=u ansible_password={SECRET}\n", "hosts").machines[0]
    assert machine.winrm == ANSIBLE[variables]
    assert (machine.transport, machine.credential) == (TransportKind.WINRM, "env:P")
    assert caplog.text == ""


def test_a_client_certificate_of_ansible_is_mapped(tmp_path):
    variables = "ansible_winrm_transport=ssl ansible_winrm_cert_pem=/c.pem ansible_winrm_cert_key_pem=/c.key"
    machine = load(tmp_path, f"w ansible_connection=winrm {variables}\n", "hosts").machines[0]
    assert machine.winrm.authentication is WinrmAuthentication.CERTIFICATE
    assert (machine.winrm.client_certificate, machine.credential) == (Path("/c.pem"), "key:/c.key")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ("ansible_winrm_server_cert_validation=ignore", "certificate is not checked"),
        ("ansible_winrm_message_encryption=never", "nothing in the clear"),
        ("ansible_winrm_transport=magic", "'magic', which fleetpatch does not know"),
    ],
)
def test_what_ansible_does_without_protection_is_a_fault(tmp_path, variables, message):
    text = f"w ansible_connection=winrm ansible_user=u ansible_password={SECRET} {variables}\n"
    with pytest.raises(InvalidInventory, match=message) as caught:
        load(tmp_path, text, "hosts")
    assert caught.value.problems[0].hint
