"""An order that a person starts at the pages, with a real Prefect server, worker, PostgreSQL and machine."""

from pathlib import Path
from typing import Any

import pytest

from fleetpatch.access.roles import Role
from fleetpatch.acts import flow_runs
from tests.lab.fleet import BootHosts
from tests.lab.test_scheduled import planned, whole_minute
from tests.support.postgres import own_server
from tests.support.prefect_tables import make_postgres_database
from tests.support.web_people import admit_people, person
from tests.support.web_site import serve_site

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

BOB = person("bob", Role.VIEW, Role.RUN)
PERIODIC = "apt-config dump APT::Periodic::Unattended-Upgrade"


def test_an_order_of_the_pages_is_carried_out_by_a_worker(
    hosts: BootHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit_people(monkeypatch)
    with own_server() as postgres:
        databases = make_postgres_database(postgres), postgres.url("fleetpatch")
        with planned(hosts, 1, tmp_path, databases) as plan:
            (host,) = plan.fleet.hosts
            host.sh("apt-get -qq update; systemctl enable --now apt-daily.timer apt-daily-upgrade.timer", root=True)
            host.sh(
                "printf '#!/bin/sh\\n' >/usr/bin/unattended-upgrade; chmod 755 /usr/bin/unattended-upgrade", root=True
            )
            host.sh("echo 'APT::Periodic::Unattended-Upgrade \"1\";' >/etc/apt/apt.conf.d/20auto-upgrades", root=True)
            plan.configure("far", host, whole_minute(86_400), "lab-plain")
            plan.work()  # it deploys too
            plan.until(lambda: "started!" in (tmp_path / "worker-0.log").read_text(), "the worker")
            monkeypatch.setattr(flow_runs, "open_server_client", lambda retries=0: plan.server.client())
            with serve_site(tmp_path, database=plan.records_url) as site:
                form = {"act": "updaters off", "machine": [host.name], "confirmed": "1", "once": "k"}
                started = site.client.post("/owners", data=form, headers=BOB).headers["location"]
                again = site.client.post("/owners", data=form, headers=BOB).headers["location"]
                assert again == started  # a form that is sent twice is one order
                order_id = started.rpartition("/")[2]
                address = f"/api/v1/orders/{order_id}"

                def read() -> Any:
                    rows = site.client.get(address, headers=BOB).json()
                    return rows if isinstance(rows, list) and rows[0]["result"] != "begun" else None

                (row,) = plan.until(read, "the end of the order")
                assert (row["machineName"], row["result"], row["by"]) == (host.name, "changed", "bob"), row
                assert host.sh(PERIODIC).strip() == 'APT::Periodic::Unattended-Upgrade "0";'
                assert site.client.get(started, headers=BOB).headers["location"] == f"/orders/{order_id}"
                (newest,) = site.client.get("/api/v1/orders", params={"machine": host.name}, headers=BOB).json()
                assert newest == row
