"""Licences for hotpatches, where the machine itself can't have them: what a provider does, and Azure Arc as one.

Azure Arc is asked through the REST API of Microsoft.HybridCompute. Only the feature Hotpatch of a machine's licence
profile is changed. The profile's own ``subscriptionStatus`` is the pay-as-you-go licence of Windows Server, which costs
money; no request contains it. The requests are those of Azure's public API specification and of Microsoft's own
scripts. The code never ran against Azure.
"""

import http.client
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from inventory.data_class import dataclass
from inventory.machine import Machine
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.domain.retry import retry
from tasks.rules.hotpatch import HotpatchAction


class LicenceError(PatchError):
    """A licence provider refused a request, or gave no usable answer."""


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a machine for hotpatches, as its provider tells."""

    is_enrolled: bool  # whether the machine has it
    # Whether the machine is set to receive hotpatches; None when the provider does not tell.
    is_enabled: bool | None = None
    is_changing: bool = False  # whether a change is in progress at the provider
    is_canceled: bool = False  # whether the machine had it, and somebody cancelled it
    state: str = ""  # the provider's own words


class LicenceProvider(Protocol):
    """Gives and takes licences. Every method may be called from several threads."""

    name: str

    def read_licence(self, machine: Machine, *, deadline: Deadline) -> Licence:
        """Return the licence of a machine. Changes nothing.

        Raises:
            LicenceError: it could not be read.
            CredentialError: the token can't be read.
        """

    def change_licence(self, machine: Machine, action: HotpatchAction, *, deadline: Deadline) -> Licence:
        """Change the licence of a machine, and return it. The provider may complete the change later.

        A change is never repeated by itself.

        Raises:
            LicenceError: it was refused, or its result is not known.
            CredentialError: the token can't be read.
        """


API_VERSION: Final = "2024-07-10"
RESOURCE_TAG: Final = "arc_resource"
"""The tag of a machine whose name at Azure Arc is another one: its full resource id."""
DEFAULT_ENDPOINT: Final = "https://management.azure.com"

_GROUP_PATTERN: Final = re.compile(r"/subscriptions/[0-9A-Za-z-]{1,64}/resourceGroups/[\w.()-]{1,90}", re.IGNORECASE)
_RESOURCE_PATTERN: Final = re.compile(
    rf"{_GROUP_PATTERN.pattern}/providers/Microsoft\.HybridCompute/machines/[\w.-]{{1,64}}", re.IGNORECASE
)
_SAFE_SIGNS: Final = "/()%"  # a machine's name is quoted already
_TOKEN_PATTERN: Final = re.compile(r"[!-~]+")
_MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_READS: Final = 4
_READ_PAUSE_SECONDS: Final = 5.0
_REQUEST_SECONDS: Final = 30.0
_NOT_FOUND: Final = 404
_CHANGING_STATES: Final = frozenset({"enabling", "disabling", "pendingevaluation"})
_HINTS: Final[Mapping[int, str]] = {
    401: "Get a new token, for example with az account get-access-token, and give it with --arc-token.",
    403: "The login needs a role that may change licences: Azure Connected Machine Resource Administrator.",
    404: f"Is it connected to Azure Arc under that name? A tag {RESOURCE_TAG} names it otherwise.",
    409: "Another change of the machine is in progress at Azure. Try again in some minutes.",
    429: "Azure limits the number of requests. Try again later, with fewer machines at once.",
}


class _NoRedirects(HTTPRedirectHandler):
    """The token must not go to another place."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nothing."""
        return


_OPENER = build_opener(_NoRedirects)


class _PassingError(LicenceError):
    """An error of a read that may be gone the next time."""


class AzureArc:
    """Licences through Azure Arc.

    Args:
        group: the resource group: /subscriptions/ID/resourceGroups/NAME; "": machines have their resource id as a tag.
        read_token: returns the access token; called for each request, so that no object keeps it.
        clock: for waits between reads.
        endpoint: the address of Azure Resource Manager; None: that of the public cloud.

    Raises:
        RequestError: the group is not a resource group.
    """

    name = "Azure Arc"

    def __init__(self, group: str, read_token: Callable[[], str], clock: Clock, endpoint: str | None = None) -> None:
        if group and not _GROUP_PATTERN.fullmatch(group):
            hint = "Write /subscriptions/ID/resourceGroups/NAME, as the portal does."
            raise RequestError(f"{group!r} is no resource group", hint=hint)
        self._group = group
        self._read_token = read_token
        self._clock = clock
        self._endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")

    def read_licence(self, machine: Machine, *, deadline: Deadline) -> Licence:
        """See LicenceProvider."""
        resource = self._find_resource(machine)
        answer = self._read(machine, resource, deadline) or {}
        profile = self._read(machine, f"{resource}/licenseProfiles/default", deadline, may_lack=True)
        feature = _find_feature(profile or {})
        settings = _find(answer, "properties", "osProfile", "windowsConfiguration", "patchSettings")
        setting = settings.get("enableHotpatching")
        enabled = str(_find(settings, "status").get("hotpatchEnablementStatus") or "")
        state = str(feature.get("subscriptionStatus") or "")
        states = {state.lower(), enabled.lower()}
        return Licence(
            is_enrolled=state.lower() in {"enabled", "enabling"},
            is_enabled=setting if isinstance(setting, bool) else None,
            is_changing=bool(states & _CHANGING_STATES),
            is_canceled=state.lower() == "disabled",
            state=", ".join(filter(None, [state and f"licence {state}", enabled and f"hotpatches {enabled}"])),
        )

    def change_licence(self, machine: Machine, action: HotpatchAction, *, deadline: Deadline) -> Licence:
        """See LicenceProvider."""
        resource = self._find_resource(machine)
        if action in {HotpatchAction.ENABLE, HotpatchAction.DISABLE}:
            self._send(machine, "PATCH", resource, deadline, _build_settings(action))
        else:
            self._change_profile(machine, resource, action, deadline)
        return self.read_licence(machine, deadline=deadline)

    def _change_profile(self, machine: Machine, resource: str, action: HotpatchAction, deadline: Deadline) -> None:
        profile = f"{resource}/licenseProfiles/default"
        has_profile = self._read(machine, profile, deadline, may_lack=True) is not None
        if not has_profile and action is HotpatchAction.UNENROLL:
            return
        location = (self._read(machine, resource, deadline) or {}).get("location")
        body: dict[str, object] = {"properties": {"productProfile": _build_product(action)}}
        if has_profile:
            self._send(machine, "PATCH", profile, deadline, body)
        else:
            self._send(machine, "PUT", profile, deadline, {"location": location, **body})

    def _find_resource(self, machine: Machine) -> str:
        tagged = machine.tags.get(RESOURCE_TAG, "")
        if tagged:
            if not _RESOURCE_PATTERN.fullmatch(tagged):
                raise LicenceError(f"its tag {RESOURCE_TAG} is no resource id of Azure Arc", machine=machine.name)
            return tagged
        if not self._group:
            raise LicenceError(
                "its resource at Azure Arc is not known",
                machine=machine.name,
                hint=f"Give --arc with the resource group, or the machine a tag {RESOURCE_TAG}.",
            )
        return f"{self._group}/providers/Microsoft.HybridCompute/machines/{quote(machine.name, safe='')}"

    def _read(
        self, machine: Machine, resource: str, deadline: Deadline, *, may_lack: bool = False
    ) -> Mapping[str, Any] | None:
        """Return a resource; None if it may be missing, and is. Only reads are repeated."""
        return retry(
            lambda: self._send(machine, "GET", resource, deadline, may_lack=may_lack),
            _PassingError,
            clock=self._clock,
            deadline=deadline,
            wait=_READ_PAUSE_SECONDS,
            max_attempts=_MAX_READS,
        )

    def _send(
        self,
        machine: Machine,
        method: str,
        resource: str,
        deadline: Deadline,
        body: Mapping[str, object] | None = None,
        *,
        may_lack: bool = False,
    ) -> Mapping[str, Any] | None:
        seconds = min(_REQUEST_SECONDS, deadline.remaining_seconds(self._clock))
        if seconds <= 0:
            raise LicenceError("no time is left to ask Azure Arc", machine=machine.name)
        request = Request(  # noqa: S310 - the endpoint is https, or a test's own
            f"{self._endpoint}{quote(resource, safe=_SAFE_SIGNS)}?api-version={API_VERSION}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json", "User-Agent": "fleetpatch"},
            method=method,
        )
        token = self._read_token()
        if not _TOKEN_PATTERN.fullmatch(token):  # it can't be in a header: http.client would print all of it
            hint = "Give only the token: az account get-access-token --query accessToken -o tsv"
            raise LicenceError("what --arc-token names is no access token", machine=machine.name, hint=hint)
        request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                return _parse_body(answer.read(_MAX_ANSWER_BYTES), machine)
        except HTTPError as error:
            if error.code == _NOT_FOUND and may_lack:
                return None
            raise _build_status_error(error, machine, method) from None
        except (URLError, OSError, http.client.HTTPException) as error:
            raise _build_line_error(error, machine, method) from None


def _build_product(action: HotpatchAction) -> dict[str, object]:
    status = "Enable" if action is HotpatchAction.ENROLL else "Disable"
    return {"productType": "WindowsServer", "productFeatures": [{"name": "Hotpatch", "subscriptionStatus": status}]}


def _build_settings(action: HotpatchAction) -> dict[str, object]:
    settings = {"enableHotpatching": action is HotpatchAction.ENABLE}
    return {"properties": {"osProfile": {"windowsConfiguration": {"patchSettings": settings}}}}


def _parse_body(body: bytes, machine: Machine) -> Mapping[str, Any]:
    """Return an answer. A change that Azure completes later has none."""
    if not body.strip():
        return {}
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise LicenceError("Azure's answer is not the expected JSON", machine=machine.name)
    return document


def _find_feature(profile: Mapping[str, Any]) -> Mapping[str, Any]:
    features = _find(profile, "properties", "productProfile").get("productFeatures")
    named = [feature for feature in features if isinstance(feature, dict)] if isinstance(features, list) else []
    return next((feature for feature in named if str(feature.get("name")).lower() == "hotpatch"), {})


def _find(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = document.get(key)
        document = value if isinstance(value, dict) else {}
    return document


def _build_status_error(error: HTTPError, machine: Machine, method: str) -> LicenceError:
    azure_words = _read_azure_words(error)
    hint = _HINTS.get(error.code, "")
    message = f"Azure Arc refused it (status {error.code}{f': {azure_words}' if azure_words else ''})"
    is_passing = error.code == 429 or error.code >= 500
    kind = _PassingError if method == "GET" and is_passing else LicenceError
    return kind(message, machine=machine.name, hint=hint)


def _read_azure_words(error: HTTPError) -> str:
    """Return the code and the message of Azure's error document, if it is one."""
    try:
        error_document = json.loads(error.read(_MAX_ANSWER_BYTES))["error"]
        return " ".join(f"{error_document['code']}: {error_document['message']}".split())[:300]
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        return ""


def _build_line_error(error: Exception, machine: Machine, method: str) -> LicenceError:
    reason = error.reason if isinstance(error, URLError) else error
    fault = "no answer in time" if isinstance(reason, TimeoutError) else type(reason).__name__
    if method == "GET":
        return _PassingError(f"Azure Arc can't be reached: {fault}", machine=machine.name)
    hint = "Whether Azure has changed something is not known. fleetpatch hotpatch status --arc tells."
    return LicenceError(f"Azure Arc did not answer a change: {fault}", machine=machine.name, hint=hint)
