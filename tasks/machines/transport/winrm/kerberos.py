"""Kerberos: one login a connection, bound to its TLS certificate; and what is wrong if it fails here.

pywinrm's Kerberos tries a refused login twice more. Over HTTPS its first try is not bound to the certificate.
"""

import logging
from typing import Any, Final, cast

import requests

_KEYTAB_HINT: Final = (
    "Get a ticket where fleetpatch runs, as the user that runs it (kinit; klist shows it). For runs that are longer "
    "than a ticket's life, give a keytab instead (KRB5_CLIENT_KTNAME): it gets new tickets by itself."
)
_SKEW_HINT: Final = "Synchronise the clocks (NTP): they may differ by five minutes at most."
_KDC_HINT: Final = (
    "Is a domain controller up, and may fleetpatch ask it (port 88, TCP and UDP)? It is found by krb5.conf, or by the "
    "DNS records _kerberos._tcp of the realm. The machine itself was not asked."
)
_OTHER_MACHINE_HINT: Final = (
    "Is another machine at that address, or someone between? If not, the ticket expired during the login: try again."
)
KDC_AWAY: Final = frozenset({-1765328228, -1765328230, -1765328164})
"""Codes of the Kerberos library (krb5.h): no KDC answers, is known, or can be resolved."""
_HINTS: Final = (
    dict.fromkeys(KDC_AWAY, _KDC_HINT)
    | dict.fromkeys((-1765328352, -1765328243, -1765328242, -1765328189), _KEYTAB_HINT)  # expired, or none
    | dict.fromkeys((-1765328347, -1765328351), _SKEW_HINT)  # skewed, not yet valid
    | {
        -1765328377: "Write the name that is in the machine's service principal as the address, or as "
        "winrm.kerberos_hostname (on the machine: setspn -L COMPUTERNAME; HOST/NAME stands for HTTP/NAME too)."
    }
)
_MODULES: Final = ("kerberos", "winkerberos")

# it logs tracebacks of errors that are raised to the caller anyway
logging.getLogger("winrm.vendor.requests_kerberos").addHandler(logging.NullHandler())
logging.getLogger("winrm.vendor.requests_kerberos").propagate = False


class KerberosFailed(Exception):
    """There is no ticket for the machine, which was not asked; or the machine did not prove who it is.

    Attributes:
        code: of the Kerberos library; 0 if unknown.
        hint: the remedy; "" if unknown.
    """

    def __init__(self, message: str, code: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint or _HINTS.get(code, "")


def allow_one_login(auth: Any, *, is_https: bool) -> None:  # noqa: ANN401  # the library is optional
    """Have pywinrm's Kerberos log in once.

    Args:
        auth: pywinrm's HTTPKerberosAuth, not used yet.
        is_https: whether to ask first, and then send a login that is bound to the certificate that was shown.

    Its methods then raise:
        KerberosFailed: see there.
    """
    generate, handle_401, authenticate = auth.generate_request_header, auth.handle_401, auth.authenticate_server

    def generate_or_raise(*args: object, **options: object) -> str:
        try:
            return str(generate(*args, **options))
        except requests.RequestException as error:  # KerberosExchangeError, which the library may drop
            cause = error.__context__
            text, code = describe_kerberos_error(cause if cause is not None and is_kerberos_error(cause) else error)
            raise KerberosFailed(f"there is no Kerberos ticket for this machine: {text}", code) from error

    def handle_first_401(response: requests.Response, **options: object) -> requests.Response:
        is_login = "Authorization" in response.request.headers
        return response if is_login else cast("requests.Response", handle_401(response, **options))

    def require_server(response: requests.Response) -> bool:
        if not authenticate(response):
            raise KerberosFailed("the machine did not prove with Kerberos who it is", hint=_OTHER_MACHINE_HINT)
        return True

    auth.force_preemptive = not is_https
    auth.generate_request_header = generate_or_raise
    auth.handle_401 = handle_first_401
    auth.authenticate_server = require_server


def is_kerberos_error(error: BaseException) -> bool:
    """Return whether an error is one of the Kerberos library, which is optional."""
    return type(error).__module__ in _MODULES


def describe_kerberos_error(error: BaseException) -> tuple[str, int]:
    """Return the most exact text in an error of the Kerberos library, and its code (0: none)."""
    codes = [arg for arg in error.args if isinstance(arg, tuple) and len(arg) == 2 and isinstance(arg[1], int)]
    exact = [arg for arg in codes if arg[1] < 0] or codes[:1]  # the codes of Kerberos itself are negative
    return (str(exact[0][0]), exact[0][1]) if exact else (str(error), 0)
