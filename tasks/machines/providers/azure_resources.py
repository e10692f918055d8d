"""Reads, makes, changes and deletes resources of Azure, and waits for the ends of its operations."""

from collections.abc import Mapping
from typing import Any, Final

from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.providers.azure_login import AzureLogin
from tasks.machines.providers.http_api import HttpApi, NotThere, Reply, pick
from tasks.machines.providers.polling import poll
from tasks.machines.providers.texts import shorten

Item = dict[str, Any]
"""A part of an answer."""
DISKS: Final = {"api-version": "2024-03-02"}
"""The version of the API for disks and snapshots."""
ENDS: Final = frozenset({"Succeeded", "Failed", "Canceled"})
"""The states of provisioning in which Azure changes nothing more by itself."""


class AzureResources:
    """The API of Azure Resource Manager. Every method raises ProviderError or ProviderUnavailable."""

    def __init__(self, api: HttpApi, login: AzureLogin, clock: Clock) -> None:
        self._api, self._login, self._clock = api, login, clock

    def send(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, str] | None,
        body: Any = None,  # noqa: ANN401 - JSON
    ) -> Reply:
        """Send a request with a token."""
        token = self._login.read_token(deadline)
        self._api.hidden[:] = [token]
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return self._api.send(method, path, deadline=deadline, headers=headers, params=params, body=body)

    def change(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, str],
        body: Any = None,  # noqa: ANN401 - JSON
    ) -> None:
        """Send a change, and wait for the end of its operation, if Azure names one."""
        address = self.send(method, path, deadline, params, body).headers.get("azure-asyncoperation", "")
        if not address:
            return
        place = self._take_path(address)

        def find_end() -> Item | None:
            document = self.send("GET", place, deadline, None).document
            return document if pick(document, "status", str) in ENDS else None

        name = path.rpartition("/")[2]
        end = poll(self._clock, deadline, find_end, message=f"the operation of Azure for {name} has not ended")
        if end["status"] != "Succeeded":
            error = end.get("error") or {}
            message = f"{end['status']}: {error.get('code', '')} {error.get('message', '')}"
            raise ProviderError(f"Azure could not carry out {method} {name}: {shorten(message)}")

    def make(self, path: str, body: Item, deadline: Deadline) -> Item:
        """Make a snapshot or a disk, unless it is there, and return it when it is complete."""
        name = path.rpartition("/")[2]
        try:
            self.send("GET", path, deadline, DISKS)
        except NotThere:
            self.change("PUT", path, deadline, DISKS, body)

        def find_end() -> Item | None:
            try:
                document = self.send("GET", path, deadline, DISKS).document
            except NotThere:  # not visible yet
                return None
            is_bad = pick(document, "properties.provisioningState", str) in ENDS - {"Succeeded"}
            return document if is_bad or is_complete(document) else None

        item = poll(self._clock, deadline, find_end, message=f"Azure has not completed {name}")
        if not is_complete(item):
            raise ProviderError(f"Azure could not complete {name}", hint="Delete it at Azure.")
        return item

    def delete(self, path: str, deadline: Deadline) -> None:
        """Delete a snapshot or a disk, if it is there."""
        try:
            self.change("DELETE", path, deadline, DISKS)
        except NotThere:
            return

    def list_all(self, path: str, deadline: Deadline) -> list[Item]:
        """Return all snapshots or disks of a group."""
        items: list[Item] = []
        params = DISKS
        while path:
            document = self.send("GET", path, deadline, params).document
            items += pick(document, "value", list)
            following = document.get("nextLink") or ""
            path, params = self._take_path(following) if following else "", {}
        return items

    def _take_path(self, address: str) -> str:
        """Return the path of an address that Azure names. The token goes to no other host."""
        if not address.startswith(f"{self._api.url}/"):
            raise ProviderError("Azure names an address on another host", hint="Ask Azure how the operation ended.")
        return address.removeprefix(self._api.url)


def is_complete(item: Item) -> bool:
    """Return whether a snapshot or a disk can be used."""
    values = pick(item, "properties", dict)
    return values.get("provisioningState") == "Succeeded" and values.get("completionPercent", 100) == 100
