"""doctor --trust: shows the unknown host keys, asks which are trusted, and learns those."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import ask, can_ask, print_json, print_to_stderr
from tasks.domain.errors import RequestError
from tasks.reports.formatting import format_count

if TYPE_CHECKING:
    from tasks.machines.transport.ssh.host_key_trust import ShownHostKey


def run_trust(
    scope: str, inventory: Path | None, records: str | None, *, at_once: int, is_asked: bool, as_json: bool
) -> ExitCode:
    """Let a person trust host keys of machines and of their jump hosts.

    Args:
        scope: which machines.
        inventory: the inventory; None: the default one.
        records: URL of the records, for the audit log.
        at_once: how many machines are asked at the same time.
        is_asked: whether a person is asked about each unknown key; otherwise all of them are learned.
        as_json: whether the result is printed as JSON.

    Returns:
        SUCCESS if all keys are trusted now, else MACHINE_FAILED.

    Raises:
        RequestError: there is no terminal to ask at.
    """
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.trust import build_trust_json, print_shown_keys, print_trust_summary
    from flows.composition import read_own_secret
    from flows.notify.audit_forwarding import forward_audit_log
    from flows.ports.audit import read_os_actor
    from flows.trust import trust_host_keys
    from tasks.machines.transport.ssh.host_key_trust import HostKeyState
    from tasks.records.audit.log import SqlAuditLog
    from tasks.records.setup import open_records

    if is_asked and not can_ask():
        raise RequestError(
            "--trust asks before it learns a host key, and there is no terminal",
            hint="Without a question: --trust-all learns every unknown key. Use it only on a network that you trust.",
        )
    loaded_inventory, machines = load_machines_in_scope(inventory, scope)
    keys: list[ShownHostKey] = []
    with open_records(records) as own, forward_audit_log(own.database, read_own_secret):
        groups = trust_host_keys(
            machines,
            loaded_inventory,
            _choose_keys if is_asked else lambda unknown: unknown,
            SqlAuditLog(own.database).append,
            read_os_actor(),
            at_once=at_once,
            detail="a person was asked" if is_asked else "nobody was asked (--trust-all)",
        )
        for group in groups:
            keys += group
            if not as_json:
                print_shown_keys(group)
    if as_json:
        print_json(build_trust_json(keys))
    else:
        print_trust_summary(keys)
    return ExitCode.SUCCESS if all(key.state is HostKeyState.TRUSTED for key in keys) else ExitCode.MACHINE_FAILED


def _choose_keys(unknown: "Sequence[ShownHostKey]") -> "Sequence[ShownHostKey]":
    """Ask about all keys together, and then about each."""
    from tasks.machines.transport.ssh.host_key_verifier import COMPARE_COMMAND

    print_to_stderr(f"Unknown host keys: {len(unknown)}. Compare each with the machine's own; on its console:")
    print_to_stderr(f"    {COMPARE_COMMAND}")
    for key in unknown:
        print_to_stderr(f"{key.machine}  {key.address}  {key.fingerprint}")
    if len(unknown) > 1 and ask(f"Trust all {format_count(len(unknown), 'key')}?"):
        return unknown
    return [key for key in unknown if ask(f"Trust {key.machine} ({key.address}) with {key.fingerprint}?")]
