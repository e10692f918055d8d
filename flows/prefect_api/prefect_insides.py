"""The insides of Prefect that fleetpatch changes or uses: Prefect has no setting for them, and may rename them.

Each function says why it is there, and which test fails when a Prefect without it would do. NAMES lists what the
installed Prefect must have, and ``tests/contract/test_prefect_insides.py`` looks for it.
"""

import json
import logging
import queue
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient, SyncPrefectClient

logger = logging.getLogger(__name__)

NAMES: Final = (
    "prefect.concurrency._leases:_handle_lease_renewal_failure",
    "prefect.events.worker:should_emit_events_to_ephemeral_server",
    "prefect.logging.handlers:APILogWorker",
    "prefect.server.api.collections:KNOWN_VIEWS",
    "prefect.server.utilities.messaging.memory:METRICS",
)
"""Modules of Prefect, and the name that is used in each."""


def keep_run_without_place() -> None:
    """Let a run go on that loses its place in the limit of its deployment. Prefect would end its process.

    It does so when the server does not answer three times within seconds, and when a slow process begins after its flow
    run was scheduled again: in the middle of an installation. The claim of the window, the run lease and machine locks
    keep runs apart, not Prefect's limit. tests/unit/engine/test_lost_place.py
    """
    from prefect.concurrency import _leases  # noqa: PLC0415 - it takes seconds to load

    setattr(_leases, "_handle_lease_renewal_failure", _log_lost_place)  # noqa: B010 - Prefect has no setting for it


def _log_lost_place(exc: BaseException, lease_id: UUID, *_args: object, **_options: object) -> None:
    """Say that a run has lost its place, in the place of Prefect's function."""
    logger.warning("Prefect no longer counts this run in the limit of its deployment (%s): %s", lease_id, exc)


def start_no_server_for_events() -> None:
    """Let an event start no server without a password. Prefect does so where its setting for such servers is off.

    tests/contract/test_no_prefect_server.py
    """
    from prefect.events import worker  # noqa: PLC0415 - it takes seconds to load

    worker.should_emit_events_to_ephemeral_server = lambda: False


def print_no_lost_log_lines() -> None:
    """Let Prefect print nothing for each line of the log that it could not send. It writes all of them to stderr.

    tests/flows/test_cli_process.py
    """
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415 - it takes seconds to load

    setattr(APILogWorker, "_handle_batch", _send_log_lines)  # noqa: B010 - Prefect has no setting for it


async def _send_log_lines(self: Any, items: list[dict[str, Any] | bytes]) -> None:  # noqa: ANN401 - Prefect's own worker
    """Send lines of the log, in the place of Prefect's method. From Prefect 3.9 on, each is JSON already."""
    try:
        await self._client.create_logs([json.loads(item) if isinstance(item, bytes) else item for item in items])
    except Exception as error:  # noqa: BLE001 - whatever it is, a lost line of the log ends nothing
        logger.info("Prefect did not receive %d log lines: %s: %s", len(items), type(error).__name__, error)


def read_own_collections() -> None:
    """Let a server read the lists of Prefect's integrations from its own files, and not from GitHub.

    tests/contract/test_telemetry.py
    """
    from prefect.server.api import collections  # noqa: PLC0415 - it takes seconds to load

    collections.KNOWN_VIEWS.update(dict.fromkeys(collections.KNOWN_VIEWS, ""))


def count_waiting_events() -> int:
    """Return how many events Prefect's services have not dealt with yet: in their queues, and in hand.

    A server that ends drops these. For a server of one run they are the last states of its task runs.
    tests/contract/test_own_server.py
    """
    from prefect.server.utilities.messaging.memory import METRICS  # noqa: PLC0415 - it takes seconds to load

    counts = [METRICS[topic] for topic in ("events", "actions") if topic in METRICS]
    return sum(count["published"] - count["consumed"] for count in counts)


def connect_once(client: "SyncPrefectClient | PrefectClient") -> None:
    """Let a client of Prefect's API try each connection once. Prefect lets it try four times.

    A server whose packets vanish on the way, and which refuses nothing, then costs four timeouts.
    tests/flows/test_silent_server.py
    """
    transport: Any = client._client._transport_for_url(client.api_url)  # noqa: SLF001
    transport._pool._retries = 0  # noqa: SLF001


def shorten_answers(client: "SyncPrefectClient | PrefectClient", seconds: float) -> None:
    """Let a client that exists already wait so long for a connection and for an answer, and connect once."""
    connect_once(client)
    client._client.timeout = seconds  # noqa: SLF001


def drop_unsent(client_seconds: float) -> None:
    """Drop the events and the lines of the log that this process has not sent.

    Prefect retries each of them for seconds: with hundreds of machines that takes hours at the end of a process.

    Args:
        client_seconds: so long the log's client waits from now on for an answer to what it sends at this moment.
    """
    from prefect.events.worker import EventsWorker  # noqa: PLC0415 - it takes seconds to load
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415 - the same

    logs = APILogWorker.instance()
    if (client := getattr(logs, "_client", None)) is not None:
        shorten_answers(client, client_seconds)
    for service in (EventsWorker.instance(), logs):
        with suppress(queue.Empty):
            while True:
                service._queue.get_nowait()  # noqa: SLF001
