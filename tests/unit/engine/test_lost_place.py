"""A run that loses its place in Prefect's limit goes on: Prefect's own code would end its process."""

import threading
from uuid import uuid4

import pytest
from prefect.concurrency import _leases

import flows.prefect_api.connected_flow  # noqa: F401 - what is tested


def test_a_server_that_does_not_answer_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Event()

    def fail(*_words: object) -> None:
        tried.set()
        raise OSError("no answer")

    monkeypatch.setattr(_leases, "_lease_renewal_loop", fail)
    with _leases.maintain_concurrency_lease(uuid4(), 300, raise_on_lease_renewal_failure=True):
        assert tried.wait(10)
        for _ in range(20):  # an exception of another thread would come here
            threading.Event().wait(0.01)
    assert "no longer counts this run" in caplog.text
