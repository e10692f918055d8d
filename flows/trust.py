"""Trust in host keys: which keys machines show, nearest jump hosts first, and which of them a person lets in."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from flows.composition import read_credential
from flows.ports.audit import AuditAppender, record_act
from flows.ports.caller import Actor
from inventory.machine import Inventory, Machine, TransportKind
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.ssh.connection import SshSettings
from tasks.machines.transport.ssh.host_key_trust import HostKeyTrust, ShownHostKey, learn_host_key, show_host_key
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool, find_route

TRUST_ACT: Final = "trust host key"
"""The act in the audit log, one for each key."""

Chooser = Callable[[Sequence[ShownHostKey]], Sequence[ShownHostKey]]
"""Returns which of these unknown keys are trusted."""


def trust_host_keys(
    machines: Sequence[Machine],
    inventory: Inventory,
    choose: Chooser,
    append: AuditAppender,
    actor: Actor,
    *,
    at_once: int,
    detail: str,
    clock: Clock | None = None,
) -> Iterator[tuple[ShownHostKey, ...]]:
    """Yield what machines and their jump hosts show, in groups; the state is the one after the choice.

    A machine behind a jump host can only be asked when the jump host is trusted: so jump hosts are the first group.

    Machines that SSH does not reach have no host key, and are left out. ``choose`` is called for each group that has
    unknown keys. ``detail`` says how the choice was made, for the audit log.

    Raises:
        RequestError: SSH reaches none of them.
        InventoryError: known_hosts can't be read or written.
        RecordsError: the audit log can't be written. The key was not learned.
    """
    clock = clock or SystemClock()
    settings = SshSettings(inventory.host_keys, read_credential, clock, LockoutGuard())
    pool = JumpHostPool()
    try:
        for group in _group_by_distance(machines, inventory):
            by_name = {machine.name: machine for machine in group}
            with ThreadPoolExecutor(min(at_once, len(group)), thread_name_prefix="host key") as threads:
                shown_keys = list(threads.map(lambda machine: show_host_key(machine, inventory, settings, pool), group))
            unknown = [key for key in shown_keys if key.state is HostKeyTrust.UNKNOWN]
            chosen = {key.machine for key in choose(unknown)} if unknown else set()
            for position, key in enumerate(shown_keys):
                if key.machine not in chosen:
                    continue
                text = f"{key.address} {key.fingerprint}; {detail}"
                with record_act(append, actor, clock, TRUST_ACT, key.machine, text):
                    learn_host_key(by_name[key.machine], key, settings)
                shown_keys[position] = replace(key, state=HostKeyTrust.TRUSTED, message="learned now")
            yield tuple(shown_keys)
    finally:
        pool.close()


def _group_by_distance(machines: Sequence[Machine], inventory: Inventory) -> list[list[Machine]]:
    """Return the machines and all jump hosts on their ways, by the number of jump hosts before them."""
    reached = {machine.name: machine for machine in machines if machine.transport is TransportKind.SSH}
    if not reached:
        raise RequestError("no machine of this scope is reached by SSH", hint="Only those have host keys to trust.")
    for machine in tuple(reached.values()):
        reached |= {hop.name: hop for hop in find_route(machine, inventory)}
    groups: dict[int, list[Machine]] = {}
    for machine in reached.values():
        groups.setdefault(len(find_route(machine, inventory)), []).append(machine)
    return [groups[distance] for distance in sorted(groups)]
