"""Logs in by OpenID Connect: authorization code with PKCE, state and nonce.

Sources: OpenID Connect Core 1.0, RFC 7636 (PKCE), RFC 9207 (iss), RFC 9700 (best current practice).
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from fleetpatch.access.providers.login_file import OidcEntry
from fleetpatch.access.providers.oidc_http import ask, build_client_login
from fleetpatch.access.providers.person import LoginRefused, Person, ProviderAway
from inventory.credentials import resolve_credential
from inventory.data_class import dataclass
from tasks.domain.protocols.clock import Clock

Kept = TypeVar("Kept")
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that only the provider can make. Not "none", and no HS256: its key would be a secret of both."""
_LEEWAY_SECONDS: Final = 60
"""How far the clocks of both sides may be apart."""
_KEPT_SECONDS: Final = 3600.0
"""How long the provider's description and keys are kept. An unknown key is looked for at once."""
_LOGOUT_SECONDS: Final = 300
"""How old a logout token may be. It needs no end of its own, and is sent at once."""
_MAX_HEARD: Final = 10_000
"""How many logout tokens are remembered at most."""
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A login that has begun: what only the browser that began it has."""

    state: str  # comes back with the answer
    nonce: str  # comes back in the ID token
    verifier: str  # proves to the provider that the code is used by who asked for it
    target: str  # the page to go to after the login

    def write(self) -> str:
        """Return it as text."""
        return json.dumps([self.state, self.nonce, self.verifier, self.target])


def begin_login(target: str) -> PendingLogin:
    """Return a new login."""
    return PendingLogin(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), target)


def read_pending_login(text: str) -> PendingLogin | None:
    """Return a login from its text; None if it is none."""
    try:
        state, nonce, verifier, target = json.loads(text)
    except (ValueError, TypeError):
        return None
    return PendingLogin(state, nonce, verifier, target)


class OidcProvider:
    """An OpenID Connect provider. All threads may share an object."""

    def __init__(self, entry: OidcEntry, clock: Clock) -> None:
        self._entry = entry
        self._clock = clock
        self._verify: str | bool = str(entry.ca) if entry.ca is not None else True
        self._description: list[tuple[float, dict[str, Any]]] = []
        self._keys: list[tuple[float, KeySet]] = []
        self._heard: dict[str, float] = {}  # the id of each logout token that is not too old, and when it is
        self._lock = threading.Lock()

    def build_login_url(self, pending: PendingLogin, redirect_uri: str) -> str:
        """Return where the browser goes to log in. Raise ProviderAway if the provider does not answer."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": self._entry.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._entry.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return _add_query(self._read_endpoint("authorization_endpoint"), parameters)

    def finish_login(self, pending: PendingLogin, answer: Mapping[str, str], redirect_uri: str) -> Person:
        """Return who has logged in.

        Raises:
            LoginRefused: the provider says no, or its answer is not one to this login.
            ProviderAway: the provider does not answer.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), pending.state.encode()):
            raise LoginRefused("the answer is not one to the login of this browser (state)")
        # Another provider may have made the answer (RFC 9207).
        is_promised = self._read_description().get("authorization_response_iss_parameter_supported") is True
        if (is_promised or "iss" in answer) and answer.get("iss") != self._entry.issuer:
            raise LoginRefused("the answer is not from the login provider (iss)")
        if "error" in answer or "code" not in answer:
            raise LoginRefused(f"the login provider says no: {answer.get('error', 'no code')[:100]}")
        tokens = self._ask_for_tokens(
            {
                "grant_type": "authorization_code",
                "code": answer["code"],
                "redirect_uri": redirect_uri,
                "code_verifier": pending.verifier,
            }
        )
        if not isinstance(tokens.get("id_token"), str):
            raise LoginRefused("the login provider gives no ID token")
        claims = self.read_id_token(tokens["id_token"], nonce=pending.nonce)
        return self._build_person(claims, tokens, "")

    def check(self, subject: str, ticket: str) -> Person:
        """Return what a person is now, by the refresh token.

        Raises:
            LoginRefused: the provider gives no new tokens, or they are another person's.
            ProviderAway: the provider does not answer.
        """
        refresh_token = _read_ticket(ticket).get("refresh_token", "")
        if not refresh_token:
            raise LoginRefused("the login provider has given no refresh token: the login is to be made again")
        tokens = self._ask_for_tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        id_token = tokens.get("id_token")
        claims = self.read_id_token(id_token) if isinstance(id_token, str) else self._ask_for_claims(tokens)
        if claims.get("sub") != subject:
            raise LoginRefused("the tokens are another person's")
        return self._build_person(claims, tokens, ticket)

    def build_logout_url(self, ticket: str, back: str) -> str:
        """Return where the browser goes to log out at the provider too; "" if it has no such address.

        Raises:
            ProviderAway: the provider does not answer.
        """
        endpoint = self._read_description().get("end_session_endpoint")
        if not isinstance(endpoint, str) or not endpoint.startswith("https://"):
            return ""
        parameters = {"client_id": self._entry.client_id, "post_logout_redirect_uri": back}
        if id_token := _read_ticket(ticket).get("id_token"):
            parameters["id_token_hint"] = id_token
        return _add_query(endpoint, parameters)

    def read_id_token(self, token: str, nonce: str | None = None) -> dict[str, Any]:
        """Return the claims of an ID token: signed by the provider, for these pages, valid now.

        ``nonce``: what it must repeat; None: nothing, as the token was asked for with a refresh token.

        Raises:
            LoginRefused: it is not.
            ProviderAway: the provider's keys can't be read.
        """
        claims = self._read_token(token, {"exp": {"essential": True}, "sub": {"essential": True}})
        if nonce is not None and claims.get("nonce") != nonce:
            raise LoginRefused("the ID token is not one for this login (nonce)")
        is_for_many = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
        if (is_for_many or "azp" in claims) and claims.get("azp") != self._entry.client_id:
            raise LoginRefused("the ID token was made for another client (azp)")
        return claims

    def read_logout_token(self, token: str) -> str:
        """Return the subject whom a logout token logs out (OpenID Connect Back-Channel Logout 1.0). Each counts once.

        Raises:
            LoginRefused: it is no valid logout token, names no subject, is old, or was read before.
            ProviderAway: the provider's keys can't be read.
        """
        claims = self._read_token(token, {"events": {"essential": True}, "jti": {"essential": True}})
        events, subject = claims["events"], claims.get("sub")
        if not isinstance(events, dict) or _LOGOUT_EVENT not in events or "nonce" in claims:
            raise LoginRefused("the token is no logout token")
        if not isinstance(subject, str) or not subject:
            raise LoginRefused("the logout token names no subject")
        token_id = claims["jti"]
        end = claims["iat"] + _LOGOUT_SECONDS
        now = self._clock.now().timestamp()
        if not isinstance(token_id, str) or not token_id or now >= end:
            raise LoginRefused("the logout token is too old, or its id is no text")
        with self._lock:
            self._heard = {known_logout: its_end for known_logout, its_end in self._heard.items() if now < its_end}
            if token_id in self._heard:
                raise LoginRefused("the logout token was read before")
            if len(self._heard) >= _MAX_HEARD:
                self._heard.pop(next(iter(self._heard)))
            self._heard[token_id] = end
        return subject

    def _read_token(self, token: str, wanted: dict[str, Any]) -> dict[str, Any]:
        try:
            try:
                decoded = jwt.decode(token, self._read_keys(), algorithms=_ALGORITHMS)
            except InvalidKeyIdError:  # the provider has new keys
                decoded = jwt.decode(token, self._read_keys(is_new=True), algorithms=_ALGORITHMS)
            registry = JWTClaimsRegistry(
                now=lambda: int(self._clock.now().timestamp()),
                leeway=_LEEWAY_SECONDS,
                iss={"essential": True, "value": self._entry.issuer},
                aud={"essential": True, "value": self._entry.client_id},
                iat={"essential": True},
                **wanted,
            )
            registry.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise LoginRefused(f"the token of the login provider is not valid: {error}") from error
        return dict(decoded.claims)

    def _ask_for_tokens(self, form: dict[str, str]) -> dict[str, Any]:
        credential = resolve_credential(self._entry.client_secret)
        secret = credential.secret.reveal() if credential.secret is not None else ""
        endpoint = self._read_endpoint("token_endpoint")
        methods = self._read_description().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if "client_secret_basic" in methods:
            login = build_client_login(self._entry.client_id, secret)
            return ask(endpoint, self._verify, form=form, login=login)
        form = {**form, "client_id": self._entry.client_id, "client_secret": secret}
        return ask(endpoint, self._verify, form=form)

    def _ask_for_claims(self, tokens: Mapping[str, Any]) -> dict[str, Any]:
        bearer = tokens.get("access_token")
        if not isinstance(bearer, str) or not self._read_description().get("userinfo_endpoint"):
            return {}
        return ask(self._read_endpoint("userinfo_endpoint"), self._verify, bearer=bearer)

    def _build_person(self, claims: dict[str, Any], tokens: Mapping[str, Any], ticket: str) -> Person:
        wanted = {self._entry.name_claim, self._entry.groups_claim}
        if not wanted <= claims.keys():
            more = self._ask_for_claims(tokens)
            if more and more.get("sub") != claims["sub"]:
                raise LoginRefused("the claims are another person's")
            claims = {**more, **claims}
        name, groups = claims.get(self._entry.name_claim), claims.get(self._entry.groups_claim, [])
        if not isinstance(name, str) or not name.strip():
            raise LoginRefused(f"the login provider gives no name: the claim {self._entry.name_claim!r} is missing")
        groups = [groups] if isinstance(groups, str) else groups
        if not isinstance(groups, list):
            raise LoginRefused(f"the claim {self._entry.groups_claim!r} is no list of groups")
        ticket_values = _read_ticket(ticket)
        for key in ("refresh_token", "id_token"):
            if isinstance(tokens.get(key), str):
                ticket_values[key] = tokens[key]
        names = tuple(group for group in groups if isinstance(group, str))
        return Person(name.strip(), names, str(claims["sub"]), json.dumps(ticket_values))

    def _read_endpoint(self, name: str) -> str:
        endpoint = self._read_description().get(name)
        if not isinstance(endpoint, str) or not endpoint.startswith("https://"):
            raise ProviderAway(f"the login provider names no {name} with https", hint="Ask who runs it.")
        return endpoint

    def _read_description(self) -> dict[str, Any]:
        return self._keep(self._description, self._ask_for_description)

    def _ask_for_description(self) -> dict[str, Any]:
        document = ask(f"{self._entry.issuer.rstrip('/')}/.well-known/openid-configuration", self._verify)
        if document.get("issuer") != self._entry.issuer:
            raise ProviderAway(
                f"the login provider is not {self._entry.issuer}", hint="Write issuer: exactly as the provider does."
            )
        return document

    def _read_keys(self, *, is_new: bool = False) -> KeySet:
        if is_new:
            self._keys.clear()
        return self._keep(self._keys, self._ask_for_keys)

    def _ask_for_keys(self) -> KeySet:
        document = ask(self._read_endpoint("jwks_uri"), self._verify)
        try:
            return KeySet.import_key_set({"keys": document["keys"]})
        except (JoseError, KeyError, TypeError, ValueError) as error:
            raise ProviderAway("the keys of the login provider can't be read", hint="Ask who runs it.") from error

    def _keep(self, kept: list[tuple[float, Kept]], read: Callable[[], Kept]) -> Kept:
        newest = kept[-1:]
        if not newest or time.monotonic() - newest[0][0] > _KEPT_SECONDS:
            newest = [(time.monotonic(), read())]
            kept[:] = newest
        return newest[0][1]


def _read_ticket(ticket: str) -> dict[str, str]:
    return dict(json.loads(ticket)) if ticket else {}


def _add_query(url: str, wanted: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(wanted)}"
