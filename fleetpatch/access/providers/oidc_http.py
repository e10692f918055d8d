"""Asks an OpenID Connect provider, and says in its own errors what went wrong."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from fleetpatch.access.providers.person import LoginRefused, ProviderAway

_TIMEOUT: Final = (5.0, 10.0)
"""Seconds to connect, and to wait for the next bytes."""
_MAX_BYTES: Final = 1024 * 1024


class NoLogin(AuthBase):
    """Sends no login. Without it, requests would send one of the user's ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Return the request as it is."""
        return request


def build_client_login(client_id: str, secret: str) -> AuthBase:
    """Return the login of a client: form-encoded before it goes into HTTP Basic (RFC 6749, 2.3.1)."""
    return HTTPBasicAuth(quote_plus(client_id), quote_plus(secret))


def ask(
    url: str,
    verify: str | bool,
    *,
    form: Mapping[str, str] | None = None,
    login: AuthBase | None = None,
    bearer: str = "",
) -> dict[str, Any]:
    """Return the JSON object of an answer: to a form, or to GET without one.

    Args:
        url: where to ask. Redirects are not followed.
        verify: a PEM file with the authority of its certificate; True: those of the system.
        form: the fields to send.
        login: the login of the client.
        bearer: an access token.

    Raises:
        ProviderAway: there is no answer, or it is no JSON object.
        LoginRefused: the answer says that the request is not valid.
    """
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    try:
        with requests.request(
            "GET" if form is None else "POST",
            url,
            data=form,
            headers=headers,
            auth=login or NoLogin(),
            verify=verify,
            timeout=_TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as answer:
            body = answer.raw.read(_MAX_BYTES + 1, decode_content=True)
            status = answer.status_code
    except (requests.RequestException, OSError) as error:
        raise _build_away(url, type(error).__name__) from error
    document = _parse(body)
    if status in {400, 401, 403} and document is not None:
        raise LoginRefused(f"the login provider says no: {str(document.get('error', status))[:100]}")
    if status != 200 or document is None:
        raise _build_away(url, f"status {status}" if status != 200 else "the answer is no JSON object")
    return document


def _parse(body: bytes) -> dict[str, Any] | None:
    if len(body) > _MAX_BYTES:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _build_away(url: str, reason: str) -> ProviderAway:
    return ProviderAway(
        f"the login provider does not answer: {url.partition('?')[0]}: {reason}",
        hint="Try again later. Until then, an access token logs in: fleetpatch web token add NAME",
    )
