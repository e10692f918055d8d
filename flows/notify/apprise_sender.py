"""Send one message through Apprise. Apprise is imported only when it is used."""

import logging

from flows.notify.messages import Message
from tasks.errors import CredentialError


def send_with_apprise(url: str, message: Message) -> bool:
    """Send one message. Return whether the service accepted it.

    Raises:
        CredentialError: Apprise does not support the URL.
    """
    import apprise  # noqa: PLC0415 - loads slowly, and most runs send nothing

    # Apprise logs URLs that it can't use, with their secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(async_mode=False, app_id="fleetpatch", app_desc="fleetpatch", app_url="")
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        raise CredentialError("its reference does not lead to a URL that Apprise knows")
    kind = apprise.NotifyType.FAILURE if message.is_failure else apprise.NotifyType.INFO
    text = apprise.NotifyFormat.TEXT
    return bool(service.notify(body=message.body, title=message.title, notify_type=kind, body_format=text))
