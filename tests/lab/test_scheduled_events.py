"""Scheduled events on real machines: the file with its approvals, and the forwarder of Azure's address."""

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.server.event_server import EventServerSettings, build_endpoint, build_event_server
from fleetpatch.server.listening import open_listener
from fleetpatch.settings import WebSettings
from flows.composition import open_ports
from flows.event_forwarding import ForwarderOrder, ForwarderState, change_forwarders
from flows.ports.caller import Caller
from flows.request.read_requests import AssessRequest
from tasks.domain.states import RebootState
from tasks.records.setup import open_records
from tests.lab.engine import Fleet, outcome_of
from tests.lab.fleet import LabHost

Boot = Callable[[int], list[LabHost]]
FOLDER = "/var/lib/fleetpatch-events"
NOTICE_MINUTES = 10.0
PATIENCE = 300.0
SHOW_ADDRESS = "ip -o address show to 169.254.169.254"
ANNOUNCE = {"enabled": True, "notice_minutes": NOTICE_MINUTES}


def wait_for(what: Callable[[], Any]) -> Any:
    """Wait until something has an answer, and return it."""
    until = time.monotonic() + PATIENCE
    while not (answer := what()):
        if time.monotonic() > until:
            pytest.fail("it did not happen")
        time.sleep(1)
    return answer


@contextmanager
def beside(act: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread during the block. Its error fails the test."""
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(act)
        yield
        call.result(PATIENCE)


def test_a_user_approves_beside_the_file_and_the_reboot_begins_early(hosts: Boot, tmp_path: Path) -> None:
    (host,) = hosts(1)
    fleet = Fleet([host], tmp_path)
    fleet.describe(every={"scheduled_events": "file"})
    before, began = host.boot_id(), time.monotonic()

    def read() -> list[dict[str, Any]]:
        text = host.sh(f"cat {FOLDER}/scheduledevents.json 2>/dev/null || true")
        events: list[dict[str, Any]] = json.loads(text)["Events"] if text.strip() else []
        return events

    def approve() -> None:
        (event,) = wait_for(read)
        assert event["Resources"] == [host.name]
        assert host.sh(f"touch {FOLDER}/scheduledevents.json 2>/dev/null || echo refused") == "refused\n"
        host.sh(f"touch {FOLDER}/approve/{event['EventId']}")

    with beside(approve):
        report = fleet.patch("lab-reboot", announce=ANNOUNCE)

    outcome = outcome_of(report, host)
    assert outcome.reboot is RebootState.COMPLETED
    assert outcome.reboot_result is not None
    assert f"its event was approved by {host.name}" in outcome.reboot_result.reason
    assert host.boot_id() != before
    assert time.monotonic() - began < NOTICE_MINUTES * 60
    assert read() == []
    assert host.sh(f"ls {FOLDER}/approve", root=True) == ""


def ask(host: LabHost, method: str = "GET", body: str = "", at: str = "169.254.169.254/80") -> str:
    """Send a request from a machine, to Azure's address or another, as a program without any library does."""
    head = (
        f"{method} /metadata/scheduledevents?api-version=2020-07-01 HTTP/1.0",
        "Metadata: true",
        f"Content-Length: {len(body)}",
    )
    request = "\r\n".join([*head, "", body])
    script = f"exec 5<>/dev/tcp/{at}; printf %s {shlex.quote(request)} >&5; cat <&5"
    return host.sh(f"bash -c {shlex.quote(script)}")


def test_a_program_on_the_machine_asks_azures_address(hosts: Boot, tmp_path: Path) -> None:
    host, foreign = hosts(2)
    fleet = Fleet([host], tmp_path)
    fleet.describe(every={"scheduled_events": "forwarder"})
    controller = host.sh("echo $SSH_CONNECTION").split()[0]
    settings = EventServerSettings(controller, 0, fleet.inventory, fleet.records_url, tmp_path)

    def change(order: ForwarderOrder) -> tuple[ForwarderState, str]:
        request = AssessRequest(scope="*", inventory=fleet.inventory)
        with open_ports(request, Caller(records_url=fleet.records_url)) as ports:
            (result,) = change_forwarders(ports.inventory.machines, ports, order, 1)
        return result.state, result.message

    with open_records(fleet.records_url) as records, open_listener(WebSettings(host=controller, port=0)) as listener:
        endpoint, _ = build_endpoint(settings, records)
        server = build_event_server(endpoint)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        order = ForwarderOrder(f"{controller}:{listener.getsockname()[1]}")
        # A lab machine shows the hardware of this machine. The forwarder is refused on a machine of a cloud.
        host.sh("[ ! -d /sys/class/dmi/id ] || mount -t tmpfs none /sys/class/dmi/id", root=True)
        state, message = change(order)
        nginx = "another program listens at port 80 of all addresses"
        assert (state, message) == (ForwarderState.REFUSED, nginx)
        left = (
            f"ls /etc/systemd/system | grep fleetpatch-f; systemctl --failed --plain | grep fleetpatch; {SHOW_ADDRESS}"
        )
        assert host.sh(f"({left}) || true", root=True) == ""
        host.sh("systemctl disable --now nginx", root=True)
        drop_in = "/run/systemd/system/fleetpatch-forwarder-address.service.d"
        host.sh(f"mkdir {drop_in}; printf '[Service]\\nExecStartPre=false\\n' >{drop_in}/x.conf", root=True)
        state, message = change(order)
        assert (state, message[:35]) == (ForwarderState.REFUSED, "the units could not be started: A d")
        assert host.sh(f"({left}) || true", root=True) == ""  # no failed unit keeps the system degraded
        host.sh(f"rm -r {drop_in}; systemctl daemon-reload", root=True)
        assert change(order) == (ForwarderState.LAID, "")
        assert '"Events": []' in ask(host)

        def approve() -> None:
            answer = wait_for(lambda: text if '"Scheduled"' in (text := ask(host)) else "")
            event = json.loads(answer[answer.index("{") :])["Events"][0]
            body = json.dumps({"StartRequests": [{"EventId": event["EventId"]}]})
            endpoint_address = f"{controller}/{listener.getsockname()[1]}"
            for method, text in (("GET", ""), ("POST", body)):
                answer = ask(foreign, method, text, endpoint_address)
                assert " 403 " in answer.splitlines()[0]
                assert host.name not in answer
            assert " 200 " in ask(host, "POST", body).splitlines()[0]

        with beside(approve):
            report = fleet.patch("lab-reboot", announce=ANNOUNCE)
        outcome = outcome_of(report, host)
        assert outcome.reboot_result is not None
        assert f"its event was approved by {host.name}" in outcome.reboot_result.reason
        host.wait_login()
        wait_for(lambda: '"Events": []' in ask(host))  # the socket is there again after the reboot
        assert change(ForwarderOrder(is_removal=True)) == (ForwarderState.ABSENT, "")
        assert host.sh(SHOW_ADDRESS, root=True) == ""
        server.should_exit = True
        thread.join()
