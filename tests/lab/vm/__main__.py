"""Virtual machines on one machine.

    python -m tests.lab.vm up N [--cold]   make N more machines; prints "NUMBER NAME ADDRESS" for each
    python -m tests.lab.vm down            end everything and remove it
    python -m tests.lab.vm status          the machines and how they are, and libvirt's address
    python -m tests.lab.vm inventory       the machines as a fleetpatch inventory
    python -m tests.lab.vm ssh I [CMD…]    a command on machine I, as user patch
    python -m tests.lab.vm console I       what machine I's serial console has shown
    python -m tests.lab.vm cut I           cut machine I's power and leave it off
    python -m tests.lab.vm start I         power it on
    python -m tests.lab.vm drop I          destroy machine I alone
    python -m tests.lab.vm virsh [WORDS…]  virsh with the lab's libvirt

$FLEETPATCH_LAB is a free name, for a second lab of the same checkout.
"""

import os
import sys

from tests.lab.fleet import LabError
from tests.lab.vm.machines import VmLab


def main(words: list[str]) -> str:
    """Return what a verb says."""
    lab = VmLab(os.environ.get("FLEETPATCH_LAB", ""))
    verb, *rest = words or ["help"]
    if verb == "up" and rest:
        return "".join(f"{vm.number} {vm.name} {vm.address}\n" for vm in lab.boot(int(rest[0]), cold="--cold" in rest))
    if verb in ("down", "status", "inventory") and not rest:
        answer = {"down": lab.down, "status": lab.status, "inventory": lab.inventory_text}[verb]()
        return answer or ""
    if verb == "virsh":
        return lab.hypervisor.virsh(*rest)
    if verb in ("ssh", "console", "cut", "start", "drop") and rest:
        vm = next((vm for vm in lab.machines() if str(vm.number) == rest[0]), None)
        if vm is None:
            raise LabError(f"there is no machine {rest[0]}", 2, "")
        if verb == "ssh":
            return vm.sh(" ".join(rest[1:]))
        if verb == "console":
            return vm.console
        {"cut": vm.off, "start": vm.on, "drop": vm.drop}[verb]()
        return ""
    raise LabError(str(__doc__), 2, "")


try:
    sys.stdout.write(main(sys.argv[1:]))
except LabError as error:
    sys.exit(str(error))
