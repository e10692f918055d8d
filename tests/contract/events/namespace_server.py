"""Serves the endpoint on the address that a program has built in, in a network namespace of its own, and runs it there.

    unshare --net python -m tests.contract.events.namespace_server RECORDS MACHINE ADDRESS PROGRAM WORD…

It ends with the program, and with its exit code.
"""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from fleetpatch.access.machine_identity import MachineDirectory
from fleetpatch.server.event_endpoint import EventEndpoint
from fleetpatch.server.event_server import DocumentReader, build_event_server
from fleetpatch.server.listening import open_listener
from fleetpatch.settings import WebSettings
from inventory.machine import Inventory, Machine
from tasks.records.event_tokens import SqlEventTokens
from tasks.records.scheduled_events import SqlScheduledEvents
from tasks.records.setup import open_records

PORT = 80


def main() -> int:
    """Serve, and run the program. Its output is this process's."""
    file, machine, address, *program = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if not address.startswith("127."):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    with open_records(f"sqlite:///{file}") as records:
        database = records.database
        inventory = Inventory((Machine(machine, address),))
        directory = MachineDirectory(lambda: inventory, "default", SqlEventTokens(database).find_machine)
        directory.refresh()
        events = SqlScheduledEvents(database)
        documents = DocumentReader(events, Path(file).with_name("count"))
        with open_listener(replace(WebSettings(), host=address, port=PORT)) as listener:
            server = build_event_server(EventEndpoint(directory, documents, events, "default"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            code = subprocess.run(program, check=False, env=os.environ).returncode
            server.should_exit = True
            thread.join()
    return code


if __name__ == "__main__":
    sys.exit(main())
