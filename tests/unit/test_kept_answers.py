"""Prefect's clients share a TLS context and the names of zones. A context that trusts everybody is not shared."""

import os
import shutil
import ssl
from datetime import timedelta
from pathlib import Path
from zoneinfo import available_timezones

import certifi
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_TLS_INSECURE_SKIP_VERIFY, PREFECT_API_URL, temporary_settings
from pydantic import ValidationError

from flows.prefect_api.kept_answers import create_context, keep_answers
from inventory.schema.value_types import load_zone_names


def find_context(url: str = "https://127.0.0.1:1/api") -> ssl.SSLContext:
    with temporary_settings({PREFECT_API_URL: url}):
        client = get_client(sync_client=True)
        context = client._client._transport._pool._ssl_context  # type: ignore[attr-defined]
    assert isinstance(context, ssl.SSLContext)
    return context


@pytest.fixture(autouse=True)
def sharing() -> None:
    keep_answers()


def test_all_clients_have_one_context_and_it_verifies() -> None:
    context = find_context()
    assert find_context() is context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 0


def test_a_context_that_trusts_everybody_is_nobody_elses() -> None:
    with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        careless = find_context()
    assert careless.verify_mode is ssl.CERT_NONE
    assert find_context() is not careless
    assert find_context().verify_mode is ssl.CERT_REQUIRED


def test_a_changed_file_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "trust.pem"
    shutil.copy(certifi.where(), file)
    context = create_context(cafile=str(file))
    assert create_context(cafile=str(file)) is context
    os.utime(file, ns=(0, 0))
    assert create_context(cafile=str(file)) is not context


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        create_context(cafile=str(tmp_path / "none.pem"))


def test_zones_are_looked_for_once_and_an_unknown_one_is_refused() -> None:
    load_zone_names.cache_clear()
    for zone in ("Europe/Berlin", "America/New_York"):
        IntervalSchedule(interval=timedelta(hours=1), timezone=zone)
    assert load_zone_names.cache_info().misses == 1
    assert load_zone_names.cache_info().hits == 1
    assert load_zone_names() == available_timezones()
    with pytest.raises(ValidationError, match="Invalid timezone"):
        IntervalSchedule(interval=timedelta(hours=1), timezone="Europe/Nowhere")
