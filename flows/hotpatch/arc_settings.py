"""Where Azure Arc is, and the token for it: from the command's options, or from the settings of this process."""

import os
from collections.abc import Callable
from typing import Final

from flows.hotpatch.licences import AzureArc, LicenceProvider
from inventory.credentials import Secret
from tasks.domain.protocols.clock import Clock

ARC_VARIABLE: Final = "FLEETPATCH_AZURE_ARC"
TOKEN_VARIABLE: Final = "FLEETPATCH_AZURE_ARC_TOKEN"  # noqa: S105 - a name
DEFAULT_TOKEN: Final = "env:AZURE_ACCESS_TOKEN"  # noqa: S105 - a reference, not a secret


def find_azure_arc(
    read_secret: Callable[[str], Secret], clock: Clock, group: str | None = None, token: str | None = None
) -> LicenceProvider | None:
    """Return Azure Arc with a resource group; None: nobody has named one.

    The token is read for each request, and never kept.

    Args:
        read_secret: returns the secret of a reference.
        clock: the clock.
        group: /subscriptions/ID/resourceGroups/NAME; None: that of the settings.
        token: a reference; None: that of the settings, or the usual variable.

    Raises:
        RequestError: the group has another form.
    """
    group = group or os.environ.get(ARC_VARIABLE, "")
    if not group:
        return None
    reference = token or os.environ.get(TOKEN_VARIABLE, "") or DEFAULT_TOKEN
    return AzureArc(group, lambda: read_secret(reference).reveal().strip(), clock)
