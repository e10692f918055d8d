"""``reconcile-fleet`` as a deployment, in the process of a test: most of what its own process costs is to load it."""

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from flows.reconcile import reconcile_fleet
from tests.support.prefect_server import PrefectServer, use_server


def reconcile_here(server: PrefectServer, **environment: str) -> list[str]:
    """Let it look for runs without a process, and start a flow run for each. Return the ids of the runs.

    Args:
        server: where it is deployed.
        environment: variables that its worker's processes have.
    """
    with pytest.MonkeyPatch.context() as patch, use_server(server.url, server.home):
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr("prefect.runtime.deployment.get_id", lambda: "of reconcile-fleet")
        try:
            return reconcile_fleet()
        finally:  # they would go on telling this server, which is gone soon
            EventsWorker.drain_all()
            APILogWorker.drain_all()
