"""The rules between the settings of a machine: how it is reached over WinRM, and how it is started."""

from collections.abc import Callable, Iterator

from inventory.credential_references import KEY_REFERENCES, ReferenceKind, parse_reference
from inventory.errors import PASSWORD_FORMS
from inventory.files.problems import ProblemCollector, SourceLocation
from inventory.machine import Machine, OsFamily, TransportKind, WinrmAuthentication, WinrmScheme

_CREDENTIAL_HINT = f"Give `credential` as {PASSWORD_FORMS}."

Rule = tuple[str, str, str]
"""The key at fault, the message and the hint."""


def check_winrm_machine(machine: Machine, locate: Callable[[str], SourceLocation], problems: ProblemCollector) -> None:
    """Report settings of a machine with the transport winrm that contradict each other, or that are missing."""
    if machine.transport is not TransportKind.WINRM:
        return
    for check in (_check_machine, _check_scheme, _check_login):
        for key, message, hint in check(machine):
            problems.add(locate(key), f"{machine.name!r}: {message}", hint)


def _check_machine(machine: Machine) -> Iterator[Rule]:
    if machine.os is not OsFamily.WINDOWS:
        yield "os", "only Windows is reached over winrm", "Remove `os`, or set the transport to ssh."
    if machine.jump:
        hint = "Remove `jump`; let the worker that patches it run in its network."
        yield "jump", "winrm goes through no jump host", hint


def _check_scheme(machine: Machine) -> Iterator[Rule]:
    settings = machine.winrm
    if settings.scheme is WinrmScheme.HTTPS:
        return
    if not settings.authentication.encrypts_messages:
        authentication = settings.authentication.value
        message = f"with authentication {authentication}, WinRM can't encrypt its messages over http"
        yield "winrm", message, "Set `scheme: https`, or authenticate with ntlm, kerberos or credssp."
    if settings.ca_file or settings.certificate_thumbprint:
        message = "over http, the machine shows no certificate that could be checked"
        yield "winrm", message, "Set `scheme: https`, or remove ca_file and certificate_thumbprint."


def _check_login(machine: Machine) -> Iterator[Rule]:
    authentication = machine.winrm.authentication
    kind = parse_reference(machine.credential).kind
    if authentication.needs_password:
        if machine.user is None:
            hint = "Give `user`: NAME for an account of the machine, DOMAIN\\NAME or NAME@DOMAIN for one of a domain."
            yield "user", f"authentication {authentication.value} needs a user", hint
        if kind in KEY_REFERENCES:
            yield "credential", f"authentication {authentication.value} needs a password", _CREDENTIAL_HINT
    elif authentication is WinrmAuthentication.KERBEROS:
        if kind not in {ReferenceKind.DEFAULT, ReferenceKind.AGENT}:
            hint = (
                "Remove `credential`; get tickets with kinit, or a keytab (KRB5_CLIENT_KTNAME), where fleetpatch runs."
            )
            yield "credential", "authentication kerberos uses tickets, no password", hint
        if "\\" in (machine.user or ""):
            hint = "Write NAME@REALM; or remove `user`, and the owner of the tickets logs in."
            yield "user", "authentication kerberos takes no user in the form DOMAIN\\NAME", hint
    else:
        if machine.winrm.client_certificate is None:
            hint = "Give `client_certificate`, and its key as `credential: key:PATH`."
            yield "winrm", "authentication certificate needs a certificate", hint
        if kind is not ReferenceKind.KEY:
            yield "credential", "authentication certificate needs a private key", "Give `credential` as key:PATH."


def check_wake_settings(machine: Machine, locate: Callable[[str], SourceLocation], problems: ProblemCollector) -> None:
    """Report wake settings that can't start a machine. Defaults, groups and the machine may each have a part."""
    if machine.wake is None or machine.wake.mac or machine.wake.command:
        return
    hint = "Give `mac` or `command`; or an empty `wake:` for a machine that fleetpatch does not start."
    problems.add(locate("wake"), f"{machine.name!r}: `wake` has neither `mac` nor `command`", hint)
