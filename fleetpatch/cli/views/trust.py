"""doctor --trust: shows the unknown host keys, asks which are trusted, and learns those."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
from fleetpatch.cli.runtime.output import (
    ask,
    can_ask,
    print_detail,
    print_json,
    print_to_stderr,
    print_to_stdout,
    render_marked_line,
)
from fleetpatch.cli.runtime.row_table import Fact, build_list_json
from flows.composition import read_own_secret
from flows.notify.audit_forwarding import forward_audit_log
from flows.ports.caller import read_os_actor
from flows.trust import trust_host_keys
from tasks.domain.errors import RequestError
from tasks.domain.states import FindingLevel
from tasks.machines.transport.ssh.host_key_trust import HostKeyTrust, ShownHostKey
from tasks.machines.transport.ssh.host_key_verifier import COMPARE_COMMAND
from tasks.records.audit.log import SqlAuditLog
from tasks.records.setup import open_records
from tasks.reports.formatting import format_count

_LEVELS = {
    HostKeyTrust.TRUSTED: FindingLevel.GOOD,
    HostKeyTrust.UNKNOWN: FindingLevel.WARN,
    HostKeyTrust.CHANGED: FindingLevel.BLOCK,
    HostKeyTrust.UNREAD: FindingLevel.BLOCK,
}
_WORDS = {
    HostKeyTrust.TRUSTED: "is trusted",
    HostKeyTrust.UNKNOWN: "is not trusted",
    HostKeyTrust.CHANGED: "must not be trusted",
    HostKeyTrust.UNREAD: "was not read",
}


def print_shown_keys(keys: Sequence[ShownHostKey]) -> None:
    """Print the key of each machine, with the reason and the remedy if it can't be trusted."""
    for key in keys:
        outcome = "was learned now" if key.state is HostKeyTrust.TRUSTED and key.message else _WORDS[key.state]
        fingerprint = f" ({key.fingerprint})" if key.key is not None else ""
        text = f"the host key of {key.address}{fingerprint} {outcome}"
        print_to_stdout(render_marked_line(_LEVELS[key.state], key.machine, text))
        if key.state in {HostKeyTrust.CHANGED, HostKeyTrust.UNREAD}:
            for text in filter(None, (key.message, key.hint)):
                print_detail(text)


def run_trust(
    scope: str, inventory: Path | None, records: str | None, *, at_once: int, is_asked: bool, as_json: bool
) -> ExitCode:
    """Let a person trust host keys of machines and of their jump hosts.

    ``is_asked``: a person is asked about each unknown key; otherwise all of them are learned. Return SUCCESS if all
    keys are trusted now, else MACHINE_FAILED.

    Raises:
        RequestError: there is no terminal to ask at.
    """
    if is_asked and not can_ask():
        raise RequestError(
            "--trust asks before it learns a host key, and there is no terminal",
            hint="Without a question: --trust-all learns every unknown key. Use it only on a network that you trust.",
        )
    loaded_inventory, machines = load_machines_in_scope(inventory, scope)
    keys: list[ShownHostKey] = []
    with open_records(records) as database, forward_audit_log(database.database, read_own_secret):
        groups = trust_host_keys(
            machines,
            loaded_inventory,
            _choose_keys if is_asked else lambda unknown: unknown,
            SqlAuditLog(database.database).append,
            read_os_actor(),
            at_once=at_once,
            detail="a person was asked" if is_asked else "nobody was asked (--trust-all)",
        )
        for group in groups:
            keys += group
            if not as_json:
                print_shown_keys(group)
    trusted = sum(key.state is HostKeyTrust.TRUSTED for key in keys)
    if as_json:
        print_json({"hostKeys": build_list_json(KEY_FACTS, keys)})
    else:
        print_to_stdout("", f"The host keys of {trusted} of {format_count(len(keys), 'machine')} are trusted.")
    return ExitCode.SUCCESS if trusted == len(keys) else ExitCode.MACHINE_FAILED


def _choose_keys(unknown: Sequence[ShownHostKey]) -> Sequence[ShownHostKey]:
    """Ask about all keys together, and then about each."""
    print_to_stderr(f"Unknown host keys: {len(unknown)}. Compare each with the machine's own; on its console:")
    print_to_stderr(f"    {COMPARE_COMMAND}")
    for key in unknown:
        print_to_stderr(f"{key.machine}  {key.address}  {key.fingerprint}")
    if len(unknown) > 1 and ask(f"Trust all {format_count(len(unknown), 'key')}?"):
        return unknown
    return [key for key in unknown if ask(f"Trust {key.machine} ({key.address}) with {key.fingerprint}?")]


KEY_FACTS: Final[Sequence[Fact[ShownHostKey]]] = (
    Fact("machineName", lambda key: key.machine),
    Fact("address", lambda key: key.address),
    Fact("state", lambda key: key.state),
    Fact("keyType", lambda key: key.key.type if key.key else None),
    Fact("fingerprint", lambda key: key.fingerprint.partition(" ")[2] or None),
    Fact("learned", lambda key: key.state is HostKeyTrust.TRUSTED and bool(key.message)),
    Fact("message", lambda key: key.message),
    Fact("hint", lambda key: key.hint),
)
