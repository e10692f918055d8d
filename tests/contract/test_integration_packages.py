"""A worker tells the server of the same integrations, whichever way it finds their packages."""

import asyncio
from importlib.metadata import distributions
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.workers import base
from prefect.workers.base import BaseWorker

from deployments.worker import integration_packages


def describe() -> Any:
    return asyncio.run(BaseWorker._worker_metadata(SimpleNamespace()))  # type: ignore[arg-type]


def test_the_packages_are_those_that_prefect_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"pydantic": None, "prefect_nowhere": None, "SQLAlchemy": None}
    for module in (base, integration_packages):
        monkeypatch.setattr(module, "load_prefect_collections", lambda: names)
    monkeypatch.setattr(base, "distributions", distributions)
    asked_for_all = describe()
    integration_packages.find_integrations_by_name()
    asked_by_name = describe()
    assert sorted(row.name for row in asked_by_name.integrations) == ["SQLAlchemy", "pydantic"]
    assert sorted(asked_by_name.integrations, key=str) == sorted(asked_for_all.integrations, key=str)


def test_without_integrations_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "distributions", distributions)
    integration_packages.find_integrations_by_name()
    for module in (base, integration_packages):
        monkeypatch.setattr(module, "load_prefect_collections", dict)
    assert describe() is None
