"""A JSON API over HTTPS: one attempt for each call, and its errors in our words."""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from inventory.credentials import Secret
from inventory.data_class import dataclass
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.providers.texts import shorten

T = TypeVar("T")
_CONNECT_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 60.0
_MAX_BYTES: Final = 16 * 1024 * 1024


class NotThere(ProviderError):
    """The API has no such thing."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no error."""

    document: Any  # its JSON; None: it has none
    headers: Mapping[str, str]  # by their names in lower case


class HttpApi:
    """An API at one address.

    Attributes:
        name: of the provider, for errors.
        url: its beginning, without a slash at the end.
        hidden: secrets that no error may show, should the API repeat them.
        is_local: no proxy is asked for it.
    """

    def __init__(self, name: str, url: str, clock: Clock, *, is_local: bool = False) -> None:
        self.name, self.url, self.hidden = name, url.rstrip("/"), list[Secret]()
        self._clock, self.is_local = clock, is_local

    def send(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,  # noqa: ANN401 - JSON
    ) -> Reply:
        """Send a request once.

        Raises:
            NotThere: status 404.
            ProviderError: it was refused, or the answer is no JSON.
            ProviderUnavailable: no answer in time, or it is busy. It may have had its effect.
        """
        seconds = deadline.remaining_seconds(self._clock)
        if seconds <= 0:
            raise ProviderUnavailable(f"{self.name}: no time is left to ask it")
        url = self.url + path
        try:
            with requests.Session() as session:
                session.trust_env = False  # ~/.netrc adds no login
                with session.request(
                    method,
                    url,
                    params=params,
                    data=form,
                    json=body,
                    headers=dict(headers),
                    timeout=(min(seconds, _CONNECT_SECONDS), min(seconds, _ANSWER_SECONDS)),
                    allow_redirects=False,  # the login would go to another host
                    proxies={} if self.is_local else get_environ_proxies(url),
                    stream=True,
                ) as response:
                    content = response.raw.read(_MAX_BYTES + 1, decode_content=True)
        except requests.exceptions.SSLError as error:
            hint = "Look at the clock of this machine, and let no proxy read this connection (NO_PROXY)."
            raise ProviderError(f"{self.name}: its certificate can't be verified", hint=hint) from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise ProviderUnavailable(f"{self.name} does not answer ({type(error).__name__})") from error
        document = _parse(content)
        if not 200 <= response.status_code < 300:
            raise self._translate(
                response.status_code, str(response.reason), document, f"{method} {urlsplit(path).path}"
            )
        if document is None and content.strip() not in {b"", b"null"}:
            raise ProviderError(f"the answer of {self.name} can't be understood: it is no JSON")
        return Reply(document, {name.lower(): value for name, value in response.headers.items()})

    def _translate(self, status: int, reason: str, document: Any, asked: str) -> ProviderError:  # noqa: ANN401 - JSON
        message = _find_message(document) or reason
        for secret in self.hidden:
            message = message.replace(secret.reveal(), "***")
        text = f"status {status}: {shorten(message)}"
        if status == 404:
            return NotThere(f"{self.name} has no such thing: {asked}: {text}")
        if status in {401, 403}:
            hint = "docs/reference/providers.md has the login and the permissions that fleetpatch needs."
            return ProviderError(f"{self.name} does not let fleetpatch {asked}: {text}", hint=hint)
        if status in {408, 409, 423, 429} or status >= 500:
            return ProviderUnavailable(f"{self.name} can't carry out {asked} now: {text}")
        return ProviderError(f"{self.name} refused {asked}: {text}")


def pick(document: object, path: str, kind: type[T]) -> T:
    """Return a value of a document by its keys, with dots between them.

    Raises:
        ProviderError: it is missing, or of another kind.
    """
    value = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProviderError(f"the answer of the provider can't be understood: `{path}` is no {kind.__name__}")
    return value


def _parse(content: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(content) if len(content) <= _MAX_BYTES else None
    except ValueError:
        return None


def _find_message(document: object) -> str:
    """Return the text of an error of Azure."""
    if not isinstance(document, dict):
        return ""
    inner = document.get("error")
    if isinstance(inner, dict):
        return f"{inner.get('code', '')} {inner.get('message', '')}"
    texts = [document.get(key) for key in ("error_description", "message")]
    return " ".join(str(text) for text in texts if text)
