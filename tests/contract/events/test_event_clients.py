"""Programs that were written for Azure, unchanged, with the endpoint: they see events, approve them, and see them end.

Each runs in a network namespace of its own, where the address that it has built in is free.
"""

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.domain.scheduled_events import EventSource, EventStatus, EventType, ScheduledEvent
from tasks.domain.states import OperationState
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records
from tasks.rules.scheduled_events import may_begin
from tests.contract.events.namespaced_program import (
    CLIENTS,
    MACHINE,
    needs_namespace,
    read_output,
    running,
    wait_for,
)
from tests.contract.records_subjects import new_database
from tests.support import builders as make

AGENTS = Path(os.environ.get("FLEETPATCH_TEST_RESOURCE_AGENTS") or "/usr/lib/ocf")
AGENT = AGENTS / "resource.d/heartbeat/azure-events-az"
pytestmark = needs_namespace


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    with new_database("sqlite", tmp_path):
        yield tmp_path / "records.db"


@pytest.fixture
def events(file: Path) -> Iterator[SqlScheduledEvents]:
    with open_records(f"sqlite:///{file}") as records:
        records.save(make.make_run(id="run-1", state=OperationState.IN_PROGRESS))
        yield SqlScheduledEvents(records.database)


def announce(events: SqlScheduledEvents, source: EventSource = EventSource.PLATFORM) -> ScheduledEvent:
    now = datetime.now(UTC)
    return events.announce(
        ScheduledEvent(
            id="",
            run_id="run-1",
            act="reboot/0",
            event_type=EventType.REBOOT,
            resources=(MACHINE,),
            audience=(MACHINE,),
            not_before=now + timedelta(minutes=15),
            expires_at=now + timedelta(hours=4),
            announced_at=now,
            description="Updates need a reboot.",
            source=source,
        )
    )


def test_the_listener_of_azures_samples_approves_and_sees_the_end(file: Path, events: SqlScheduledEvents) -> None:
    event = announce(events, EventSource.USER)
    program = shutil.copy(CLIENTS / "Listener.py.txt", file.with_name("Listener.py"))

    with running(file, "127.0.0.1", sys.executable, str(program), words="1\n" * 5):
        wait_for(lambda: may_begin(events.find("run-1")[0], datetime.now(UTC)), file)
        events.change(event.id, EventStatus.STARTED)
        wait_for(lambda: "'EventStatus': 'Started'" in read_output(file), file)
        events.change(event.id, EventStatus.COMPLETED)
        last = events.read_document(MACHINE).incarnation
        wait_for(lambda: f"Processed events from document: {last}" in read_output(file), file)

    assert events.find("run-1")[0].approvals[0].machine == MACHINE


def test_the_operator_of_kubernetes_drains_approves_and_brings_the_node_back(
    file: Path, events: SqlScheduledEvents
) -> None:
    folder = file.parent
    tools = folder / "tools"
    tools.mkdir()
    (tools / "kubectl").write_text('#!/bin/sh\necho "$*" >>"$(dirname "$0")/../orders"\n')
    (tools / "kubectl").chmod(0o755)
    orders = folder / "orders"
    settings = {
        "api-metadata-instance": "http://127.0.0.1/metadata/instance?api-version=2021-02-01",
        "api-metadata-scheduledevents": "http://127.0.0.1/metadata/scheduledevents?api-version=2020-07-01",
        "polling-frequency-seconds": 1,
        "delay-before-program-close-seconds": 0,
        "processing-rules": [{"rule-type": "handle-event-if", "event-type-is": ["Reboot"]}],
    }
    (folder / "seo.json").write_text(json.dumps(settings))
    (folder / "cache").mkdir()
    program = shutil.copy(CLIENTS / "seoperator2.py.txt", folder / "seoperator2.py")
    path = f"{tools}:{os.environ['PATH']}"
    words = (sys.executable, str(program), str(folder / "seo.json"), str(folder / "cache"))

    with running(file, "127.0.0.1", *words, environment={"PATH": path}):
        event = announce(events)
        wait_for(lambda: may_begin(events.find("run-1")[0], datetime.now(UTC)), file)
        assert "drain" in orders.read_text()
        events.change(event.id, EventStatus.STARTED)
        events.change(event.id, EventStatus.COMPLETED)
        wait_for(lambda: "uncordon" in orders.read_text(), file)

    assert events.find("run-1")[0].approvals[0].machine == MACHINE


NODE = socket.gethostname()  # the agent asks the system, and not Pacemaker
CLUSTER_TOOLS = {
    "crm_node": f'case $1 in -n) echo {NODE} ;; *) printf "1 {NODE} member\\n2 other member\\n" ;; esac\n',
    "crm_attribute": (
        'place=$(dirname "$0")/../attributes; name= value= node= work=query\n'
        "while [ $# -gt 0 ]; do case $1 in --name) name=$2; shift ;; --update) work=update value=$2; shift ;;\n"
        "--node) node=$2; shift ;; --delete) work=delete ;; --default | --type) shift ;; esac; shift; done\n"
        'mkdir -p "$place"; file=$place/$node.$name\n'
        'case $work in update) printf "%s" "$value" >"$file" ;; delete) rm -f "$file" ;;\n'
        '*) cat "$file" 2>/dev/null ;; esac\n'
        "exit 0\n"
    ),
    "crm_simulate": "echo Transition Summary:\n",
    "crm_resource": "",
}


@pytest.mark.skipif(not AGENT.exists(), reason="Debian's package resource-agents is not installed")
def test_the_agent_of_pacemaker_empties_the_node_and_approves(file: Path, events: SqlScheduledEvents) -> None:
    folder = file.parent
    (folder / "tools").mkdir()
    for name, text in CLUSTER_TOOLS.items():
        (folder / "tools" / name).write_text(f"#!/bin/sh\n{text}")
        (folder / "tools" / name).chmod(0o755)
    environment = {
        "PATH": f"{folder / 'tools'}:{os.environ['PATH']}",
        "OCF_ROOT": str(AGENTS),
        "OCF_FUNCTIONS_DIR": str(AGENTS / "lib/heartbeat"),
        "HA_SBIN_DIR": str(folder / "tools"),
        "OCF_RESOURCE_INSTANCE": "t",
        "OCF_RESKEY_eventTypes": "Reboot,Redeploy",
        "OCF_RESKEY_CRM_meta_interval": "10000",
        "OCF_RESKEY_retry_count": "0",
    }
    watch = f"while :; do '{sys.executable}' '{AGENT}' monitor; sleep 1; done"
    event = announce(events)

    with running(file, "169.254.169.254", "sh", "-c", watch, environment=environment):
        wait_for(lambda: may_begin(events.find("run-1")[0], datetime.now(UTC)), file)
        assert (folder / f"attributes/{NODE}.#health-azure").read_text() == "-1000000"
        events.change(event.id, EventStatus.STARTED)
        events.change(event.id, EventStatus.COMPLETED)
        wait_for(lambda: (folder / f"attributes/{NODE}.#health-azure").read_text() == "0", file)

    assert events.find("run-1")[0].approvals[0].machine == MACHINE
