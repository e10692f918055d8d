"""How fleetpatch logs in to Azure: as an application with a secret, or as the identity of its own machine."""

from typing import Final

from inventory.credentials import Secret
from inventory.data_class import dataclass
from tasks.domain.errors import ProviderError
from tasks.domain.protocols.clock import Clock, Deadline
from tasks.machines.providers.http_api import HttpApi, pick

MANAGEMENT: Final = "https://management.azure.com"
LOGIN: Final = "https://login.microsoftonline.com"
METADATA: Final = "http://169.254.169.254"
_EARLY_SECONDS: Final = 300.0
"""A token is used until so long before its end."""


@dataclass(slots=True)
class AzureLogin:
    """Gets tokens for the API of Azure."""

    api: HttpApi  # the login service, or the metadata service of this machine
    clock: Clock  # the clock of the run
    tenant: str = ""  # the id of the tenant; "": the identity of this machine logs in
    client: str = ""  # the id of the application
    secret: Secret | None = None  # of the application
    _token: Secret | None = None
    _until: Deadline | None = None

    def read_token(self, deadline: Deadline) -> Secret:
        """Return a token.

        Raises:
            ProviderError: the login was refused, or its answer can't be understood.
            ProviderUnavailable: there is no answer.
        """
        if self._token is None or self._until is None or self._until.has_passed(self.clock):
            document = self._ask(deadline)
            self._token = Secret(pick(document, "access_token", str))
            try:
                seconds = float(str(document.get("expires_in")))
            except ValueError as error:
                raise ProviderError(f"{self.api.name}: the answer to the login can't be understood") from error
            self._until = Deadline.after(self.clock, seconds - _EARLY_SECONDS)
        return self._token

    def _ask(self, deadline: Deadline) -> dict[str, object]:
        if self.secret is None:
            query = {"api-version": "2018-02-01", "resource": f"{MANAGEMENT}/"}
            path, headers = "/metadata/identity/oauth2/token", {"Metadata": "true"}
            document = self.api.send("GET", path, deadline=deadline, headers=headers, params=query).document
        else:
            form = {
                "grant_type": "client_credentials",
                "client_id": self.client,
                "client_secret": self.secret.reveal(),
                "scope": f"{MANAGEMENT}/.default",
            }
            path = f"/{self.tenant}/oauth2/v2.0/token"
            document = self.api.send("POST", path, deadline=deadline, headers={}, form=form).document
        return document if isinstance(document, dict) else {}
