"""The installed Prefect has what fleetpatch takes from its inside, and few modules of ours take anything."""

import importlib
import re
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from flows.prefect_api.prefect_insides import NAMES, shorten_answers
from tests.ci.tree import TOP


@pytest.mark.parametrize("name", NAMES)
def test_prefect_has_what_is_changed_or_read_in_it(name: str) -> None:
    module, _, attribute = name.partition(":")
    assert attribute in vars(importlib.import_module(module))


def test_its_queues_and_clients_are_as_they_are_used() -> None:
    for service in (EventsWorker, APILogWorker):
        assert any(
            "_queue" in vars(base)["__init__"].__code__.co_names for base in service.__mro__ if "__init__" in vars(base)
        )
    for client in (SyncPrefectClient("http://127.0.0.1:9/api"), PrefectClient("http://127.0.0.1:9/api")):
        shorten_answers(client, 1.0)
        assert client._client.timeout == httpx.Timeout(1.0)
        transport: Any = client._client._transport_for_url(client.api_url)
        assert transport._pool._retries == 0


def test_no_other_module_of_ours_takes_anything_from_its_inside() -> None:
    found = {
        str(path.relative_to(TOP))
        for package in ("inventory", "tasks", "flows", "deployments", "fleetpatch")
        for path in (TOP / package).rglob("*.py")
        if re.search(
            r"(?m)^\s*(from|import) prefect(\.\w+)*(\._| import .*\b_)|^\s*from prefect\.server", path.read_text()
        )
        or re.search(r"setattr\((?!self|made)\w", path.read_text())
    }
    assert found <= {
        "flows/prefect_api/prefect_insides.py",
        "flows/prefect_api/application.py",  # the server itself
        "deployments/worker/installed_flow_start.py",  # how a worker starts a run
        "deployments/worker/integration_packages.py",
        "deployments/server/probe.py",  # computes dates of schedules as the server does
    }
