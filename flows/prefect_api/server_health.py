"""Whether a URL is that of a usable Prefect server, asked without Prefect's client: it loads slowly, and retries."""

import http.client
import urllib.error
import urllib.request
from typing import Final

from flows.prefect_api.server_settings import HEALTHY_RESPONSE

_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 10_000  # the answer should be one word


def find_server_fault(url: str) -> str:
    """Return why a URL is not that of a usable Prefect server, as the end of a sentence, or ""."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the user's own setting
            kind, text = answer.headers.get_content_type(), answer.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        # A proxy answers, and wants the login that Prefect's client has.
        return "" if error.code in {401, 403} else f"answers {error.code} {error.reason}. Is this the URL of its API?"
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: not a URL
        return "does not answer"
    return "" if text.strip() == HEALTHY_RESPONSE else f"is not a Prefect server: /health answers {kind}"
