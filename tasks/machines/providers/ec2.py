"""What Amazon EC2 says of one instance, and its errors in our words."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from inventory.credentials import Secret
from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.machines.providers.texts import shorten

Item = dict[str, Any]
"""A part of an answer of EC2."""

_BUSY: Final = frozenset({"RequestLimitExceeded", "Throttling", "InternalError", "ServiceUnavailable", "Unavailable"})
_REFUSED: Final = frozenset(
    {
        "AuthFailure",
        "UnauthorizedOperation",
        "SignatureDoesNotMatch",
        "InvalidClientTokenId",
        "RequestExpired",
        "Blocked",
    }
)
_CONFIG: Final = Config(connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 1})
"""One attempt: an order whose answer was lost must not be repeated blindly."""


class Ec2:
    """EC2 of one region, for one instance. Every method raises ProviderError or ProviderUnavailable.

    Attributes:
        instance_id: the id of the instance.
    """

    def __init__(self, client: Any, instance_id: str) -> None:  # noqa: ANN401 - botocore makes its classes while it runs
        self._client, self.instance_id = client, instance_id

    def ask(self, operation: str, values: Mapping[str, object], gone: str = "") -> Item:
        """Call an operation of EC2. The code ``gone`` means that there is nothing left to do: the answer is empty."""
        try:
            answer: Item = getattr(self._client, operation)(**values)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if gone and code == gone:
                return {}
            raise _translate(error, code, operation) from error
        except (ConnectionError, HTTPClientError) as error:  # no connection, no answer in time, a broken answer
            raise ProviderUnavailable(f"AWS does not answer {operation} ({type(error).__name__})") from error
        except BotoCoreError as error:  # no login, a wrong parameter
            raise ProviderError(f"AWS can't be asked for {operation}: {shorten(str(error))}") from error
        return answer

    def read_instance(self) -> Item:
        """Return the instance."""
        reservations = self.ask("describe_instances", {"InstanceIds": [self.instance_id]}).get("Reservations", [])
        instances = [instance for reservation in reservations for instance in reservation.get("Instances", [])]
        if len(instances) != 1 or instances[0].get("State", {}).get("Name") == "terminated":
            raise ProviderError(
                f"AWS has no instance {self.instance_id} (any more)", hint="Correct `provider` in the inventory."
            )
        return dict(instances[0])

    def list_snapshots(self, filters: Mapping[str, str]) -> dict[str, Item]:
        """Return snapshots of this account by their ids."""
        asked: Item = {"Filters": [{"Name": name, "Values": [value]} for name, value in filters.items()]}
        asked["OwnerIds"] = ["self"]
        items: dict[str, Item] = {}
        while True:
            page = self.ask("describe_snapshots", asked)
            items |= {item["SnapshotId"]: item for item in page.get("Snapshots", [])}
            if not page.get("NextToken"):
                return items
            asked["NextToken"] = page["NextToken"]


@lru_cache(maxsize=16)
def open_client(region: str, key_id: str, secret: Secret | None) -> Any:  # noqa: ANN401 - botocore makes its classes while it runs
    """Return a client of EC2, which is thread-safe and dear to make. Without a key, botocore finds its login.

    Raises:
        ProviderError: the region is not one.
    """
    login = {"aws_access_key_id": key_id, "aws_secret_access_key": secret.reveal()} if secret is not None else {}
    try:
        return botocore.session.get_session().create_client("ec2", region_name=region, config=_CONFIG, **login)
    except (BotoCoreError, ValueError) as error:
        raise ProviderError(f"AWS can't be asked: {shorten(str(error))}") from error


def read_tags(item: Item) -> dict[str, str]:
    """Return the tags of an item."""
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def _translate(error: ClientError, code: str, operation: str) -> ProviderError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = shorten(str(error.response.get("Error", {}).get("Message", "")))
    if code in _BUSY or status >= 500 or status == 429:
        return ProviderUnavailable(f"AWS can't answer {operation} now: {code}: {message}")
    if code in _REFUSED:
        hint = "docs/reference/providers.md has the permissions that fleetpatch needs."
        return ProviderError(f"AWS does not let fleetpatch {operation}: {code}: {message}", hint=hint)
    return ProviderError(f"AWS refused {operation}: {code}: {message}")
