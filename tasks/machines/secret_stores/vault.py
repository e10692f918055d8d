"""OpenBao and HashiCorp Vault: secrets of the KV engine (version 2), and certificates of the SSH engine.

The address and the login come from the controller's environment, never from an inventory. The API is that of both:
https://openbao.org/api-docs and https://developer.hashicorp.com/vault/api-docs. Three calls need no library.
"""

import ipaddress
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import requests

from inventory.credentials import Secret, resolve_own_secret
from inventory.data_class import dataclass
from inventory.errors import CredentialError, InvalidInventory, SecretStoreUnavailable
from inventory.files.problems import ProblemCollector
from inventory.files.text_files import read_text_file

TIMEOUT_SECONDS: Final = (5.0, 20.0)
"""For the connection, and for each part of the answer."""
_MAX_MESSAGE_CHARACTERS: Final = 300
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, 472, 473})
"""472 and 473 are standby nodes that do not forward: https://openbao.org/api-docs/system/health."""
_LOGIN_HINT: Final = "docs/how-to/secret-stores.md shows the variables and the policy that fleetpatch needs."


@dataclass(frozen=True, slots=True)
class VaultLogin:
    """How to get a token."""

    read_token: Callable[[], Secret] | None = None  # returns a token that somebody else renews; None for a login
    path: str = ""  # the login's path below ``auth/``: ``approle/login``
    build_body: Callable[[], dict[str, str]] = dict  # returns the body of the login


@dataclass(slots=True)
class _Token:
    value: Secret
    renew_at: float
    """As time.monotonic()."""


@dataclass
class VaultStore:
    """A SecretStore."""

    address: str  # its URL, without a path
    login: VaultLogin  # how to get a token
    namespace: str = ""  # the namespace, or ""
    ca: str | None = None  # a file or folder of certificates; None: those of the system's Python
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _token: _Token | None = None

    def read_secret(self, path: str, key: str) -> str:
        """See SecretStore."""
        mount, _, name = path.partition("//") if "//" in path else path.partition("/")
        subject = f"vault:{path}"
        answer = self._call("GET", f"{mount}/data/{name}", subject, "read")
        value = _read_map(_read_map(answer, "data", subject), "data", subject).get(key)
        if not isinstance(value, str) or not value:
            message = f"the secret {subject} has no text under the key {key!r}"
            raise CredentialError(message, hint="Correct the key after '#'.")
        return value

    def sign_public_key(self, signer: str, public_key: str, user: str) -> str:
        """See SecretStore."""
        mount, _, role = signer.rpartition("/")
        subject = f"vault-ssh:{signer}"
        body = {"public_key": public_key, "valid_principals": user, "cert_type": "user"}
        answer = self._call("POST", f"{mount}/sign/{role}", subject, "update", body)
        signed = _read_map(answer, "data", subject).get("signed_key")
        if not isinstance(signed, str):
            raise CredentialError(f"the secret store signed nothing for {subject}")
        return signed

    def _call(
        self, method: str, path: str, subject: str, capability: str, body: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        token = self._find_token()
        status, answer = self._send(method, path, body, token.value)
        if status == HTTPStatus.FORBIDDEN:  # it was revoked, or it ended early
            with self._lock:
                self._token = None if self._token is token else self._token
            if self.login.read_token is None:  # a login can give another one
                status, answer = self._send(method, path, body, self._find_token().value)
        if status == HTTPStatus.OK:
            return answer
        message, hint = f"the secret store refused {subject}: {_describe(status, answer)}", _LOGIN_HINT
        if status == HTTPStatus.FORBIDDEN:
            message = f"the secret store does not let fleetpatch use {subject}"
            hint = f'Give its policy: path "{path}" {{capabilities=["{capability}"]}}.'
        elif status == HTTPStatus.NOT_FOUND:
            message = f"the secret store has no {subject}"
            hint = "Is it KV version 2, and is the secret or role written so?"
        raise CredentialError(message, hint=hint)

    def _find_token(self) -> _Token:
        with self._lock:
            if self._token is None or self._token.renew_at <= time.monotonic():
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> _Token:
        login = self.login
        if login.read_token is not None:
            return _Token(login.read_token(), time.monotonic())  # read anew each time: an agent renews it
        status, answer = self._send("POST", f"auth/{login.path}", login.build_body(), None)
        authentication = answer.get("auth")
        if status != HTTPStatus.OK or not isinstance(authentication, dict):
            raise CredentialError(
                f"the secret store refused the login of fleetpatch: {_describe(status, answer)}", hint=_LOGIN_HINT
            )
        seconds = float(authentication.get("lease_duration") or 0)
        return _Token(Secret(str(authentication["client_token"])), time.monotonic() + seconds / 2)

    def _send(
        self, method: str, path: str, body: Mapping[str, str] | None, token: Secret | None
    ) -> tuple[int, dict[str, object]]:
        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token.reveal()
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        host = urlsplit(self.address).netloc
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy sees tokens, and ~/.netrc adds no login
                response = session.request(
                    method,
                    f"{self.address}/v1/{quote(path)}",
                    json=body,
                    headers=headers,
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,  # the token would go to another host
                    verify=self.ca or True,
                )
        except requests.exceptions.SSLError as error:
            raise CredentialError(
                f"the certificate of the secret store {host} can't be verified",
                hint="Name the file of its authority in VAULT_CACERT.",
            ) from error
        except (requests.RequestException, OSError) as error:
            raise SecretStoreUnavailable(
                f"the secret store {host} does not answer ({type(error).__name__})",
                hint="Is it running, and is VAULT_ADDR its address?",
            ) from error
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status_code in _BUSY:
            raise SecretStoreUnavailable(
                f"the secret store {host} can't answer now: {_describe(response.status_code, _parse(response))}",
                hint="Is it unsealed, and is it the active node?",
            )
        return response.status_code, _parse(response)


def open_vault(environment: Mapping[str, str]) -> VaultStore:
    """Return the store that the controller's environment names. It is not asked yet.

    The variables are VAULT_ADDR and so on, or with BAO_ in front; FLEETPATCH_VAULT_… for the login.

    Raises:
        CredentialError: a variable is missing or wrong.
    """

    def find(name: str) -> str:
        return environment.get(f"BAO_{name}") or environment.get(f"VAULT_{name}") or ""

    address = find("ADDR").rstrip("/")
    if not address:
        raise CredentialError(
            "no secret store is named here", hint=f"Set VAULT_ADDR where the worker is started. {_LOGIN_HINT}"
        )
    if find("SKIP_VERIFY").lower() in {"1", "t", "true"}:
        raise CredentialError(
            "VAULT_SKIP_VERIFY is set, and fleetpatch sends no token to a store that it can't verify",
            hint="Unset it, and name the file of the store's authority in VAULT_CACERT.",
        )
    parts = urlsplit(address)
    try:
        is_loopback = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = parts.hostname == "localhost"
    if parts.path or not parts.hostname or not (parts.scheme == "https" or is_loopback):
        raise CredentialError("VAULT_ADDR is no https address", hint="Write https://HOST:8200, without a path.")
    login = _build_login(environment, find("TOKEN"))
    return VaultStore(address, login, find("NAMESPACE"), find("CACERT") or find("CAPATH") or None)


def _build_login(environment: Mapping[str, str], token: str) -> VaultLogin:
    """Return the login that the environment asks for: exactly one of three."""
    token_reference = environment.get("FLEETPATCH_VAULT_TOKEN", "")
    role_id = environment.get("FLEETPATCH_VAULT_ROLE_ID", "")
    role = environment.get("FLEETPATCH_VAULT_ROLE", "")
    if [bool(token_reference or token), bool(role_id), bool(role)].count(True) != 1:
        raise CredentialError(
            "the login of fleetpatch at its secret store is not clear",
            hint="Set one of FLEETPATCH_VAULT_TOKEN (a reference), FLEETPATCH_VAULT_ROLE_ID (with "
            "FLEETPATCH_VAULT_SECRET_ID, a reference) and FLEETPATCH_VAULT_ROLE (with FLEETPATCH_VAULT_JWT_FILE).",
        )
    mount = environment.get("FLEETPATCH_VAULT_AUTH_MOUNT", "").strip("/")
    if role_id:
        secret_id = environment.get("FLEETPATCH_VAULT_SECRET_ID", "")
        build_body = lambda: {"role_id": role_id, "secret_id": resolve_own_secret(secret_id).reveal()}  # noqa: E731
        return VaultLogin(path=f"{mount or 'approle'}/login", build_body=build_body)
    if role:
        file = Path(environment.get("FLEETPATCH_VAULT_JWT_FILE", ""))
        build_body = lambda: {"role": role, "jwt": _read_token_file(file)}  # noqa: E731
        return VaultLogin(path=f"{mount or 'jwt'}/login", build_body=build_body)
    return VaultLogin(read_token=lambda: resolve_own_secret(token_reference) if token_reference else Secret(token))


def _read_token_file(path: Path) -> str:
    """Return the token in a file. Kubernetes renews it, and lets everybody in the container read it."""
    problems = ProblemCollector()
    text = read_text_file(path, problems, must_be_regular=True)
    try:
        problems.raise_if_any()
    except InvalidInventory as error:
        raise CredentialError(f"the token for the secret store: {error.message}", hint=error.hint) from error
    return (text or "").strip()


def _read_map(answer: Mapping[str, object], key: str, what: str) -> dict[str, object]:
    value = answer.get(key)
    if not isinstance(value, dict):
        raise CredentialError(
            f"the answer of the secret store to {what} can't be understood",
            hint="Is it the KV engine of version 2, or the SSH engine with a role of key_type ca?",
        )
    return value


def _parse(response: requests.Response) -> dict[str, object]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _describe(status: int, answer: Mapping[str, object]) -> str:
    errors = answer.get("errors")
    errors_text = " ".join(" ".join(map(str, errors)).split()) if isinstance(errors, list) else ""
    return f"status {status}{': ' if errors_text else ''}{errors_text[:_MAX_MESSAGE_CHARACTERS]}"
