"""Compares what a Windows machine tells a login over the network with what it tells SYSTEM. It installs nothing.

    python -m tests.ci.windows_loopback MACHINE

The machine is one of the inventory. A job searches for updates there, as those that install do: as a task of SYSTEM.
"""

import sys
from uuid import uuid4

from inventory.credentials import resolve_credential
from inventory.loader import find_inventory, load_inventory
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, JobPhase, Script, Transport
from tasks.machines.managers.registry import find_manager
from tasks.machines.transport.session_factory import build_session
from tasks.steps.machine.facts import read_facts

SECONDS = 1500.0
POLL_SECONDS = 1.0


def search_as_system(transport: Transport, deadline: Deadline) -> tuple[set[str], list[str]]:
    """Return the ids of the updates that a job finds, and what is wrong with the job."""
    clock = SystemClock()
    job = Job(f"search-{uuid4().hex[:12]}", Script("wua_assess", package="tasks.machines.managers.windows_update"))
    transport.start_job(job, deadline=deadline)
    status = transport.poll_job(job.id, deadline=deadline)  # it may have ended before its start was answered
    records = list(status.events)
    while status.phase is JobPhase.RUNNING and not deadline.has_passed(clock):
        clock.sleep(POLL_SECONDS)
        status = transport.poll_job(job.id, deadline=deadline, events_from=status.events_offset)
        records += status.events
    faults = []
    if status.phase is not JobPhase.FINISHED or status.exit_code != 0:
        faults.append(f"the job is {status.phase}, exit code {status.exit_code}: {status.log[-2000:]}")
    searches = [record for record in records if record["kind"] == "search"]
    if [record.get("result_code") for record in searches] not in ([2], [3]):
        faults.append(f"the job's search failed: {searches}")
    return {str(record["id"]) for record in records if record["kind"] == "update"}, faults


def main(name: str) -> int:
    """Look at a machine, and print what it says. Return 1 if something is wrong."""
    clock = SystemClock()
    deadline = Deadline.after(clock, SECONDS)
    inventory = load_inventory(find_inventory(None))
    machine = inventory.find_machine(name)
    transport = build_session(machine, inventory, clock=clock, resolve_credential=resolve_credential)
    try:
        facts = read_facts(transport, clock, deadline)
        print(f"{facts.os_name} {facts.os_version}, boot {facts.boot_id}, clock {facts.clock_skew_seconds:+.1f} s")
        packages = find_manager(facts).assess(transport, refresh=False, deadline=deadline)
        by_network = {update.id for update in packages.updates}
        by_system, faults = search_as_system(transport, deadline)
    finally:
        transport.close()
    print(f"{len(by_network)} updates over the network, {len(by_system)} as SYSTEM; reboot: {packages.reboot}")
    if not facts.boot_id:
        faults.append("it has no boot id")
    if missing := by_network - by_system:
        faults.append(f"SYSTEM does not see {sorted(missing)}")
    for fault in faults:
        print(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
