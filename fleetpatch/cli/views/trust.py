"""Prints host keys: what machines show, and whether it is trusted."""

from collections.abc import Sequence

from rich.text import Text

from fleetpatch.cli.runtime.output import print_to_stdout, render_finding_mark, to_safe_text
from tasks.domain.states import FindingLevel
from tasks.machines.transport.ssh.host_key_trust import HostKeyState, ShownHostKey
from tasks.reports.formatting import format_count

_LEVELS = {
    HostKeyState.TRUSTED: FindingLevel.GOOD,
    HostKeyState.UNKNOWN: FindingLevel.WARN,
    HostKeyState.CHANGED: FindingLevel.BLOCK,
    HostKeyState.UNREAD: FindingLevel.BLOCK,
}
_WORDS = {
    HostKeyState.TRUSTED: "is trusted",
    HostKeyState.UNKNOWN: "is not trusted",
    HostKeyState.CHANGED: "must not be trusted",
    HostKeyState.UNREAD: "was not read",
}


def print_shown_keys(keys: Sequence[ShownHostKey]) -> None:
    """Print the key of each machine, with the reason and the remedy if it can't be trusted."""
    for key in keys:
        outcome = "was learned now" if key.state is HostKeyState.TRUSTED and key.message else _WORDS[key.state]
        fingerprint = f" ({key.fingerprint})" if key.key is not None else ""
        print_to_stdout(
            Text.assemble(
                render_finding_mark(_LEVELS[key.state]),
                " ",
                to_safe_text(key.machine, "bold"),
                to_safe_text(f": the host key of {key.address}{fingerprint} {outcome}"),
            )
        )
        if key.state in {HostKeyState.CHANGED, HostKeyState.UNREAD}:
            for text in filter(None, (key.message, key.hint)):
                print_to_stdout(Text.assemble("    ", to_safe_text(text)))


def print_trust_summary(keys: Sequence[ShownHostKey]) -> None:
    """Print how many keys are trusted."""
    trusted = sum(key.state is HostKeyState.TRUSTED for key in keys)
    print_to_stdout("", f"The host keys of {trusted} of {format_count(len(keys), 'machine')} are trusted.")


def build_trust_json(keys: Sequence[ShownHostKey]) -> dict[str, object]:
    """Return the keys as JSON data."""
    return {
        "hostKeys": [
            {
                "machineName": key.machine,
                "address": key.address,
                "state": key.state.value,
                "keyType": key.key.type if key.key else None,
                "fingerprint": key.fingerprint.partition(" ")[2] or None,
                "learned": key.state is HostKeyState.TRUSTED and bool(key.message),
                "message": key.message,
                "hint": key.hint,
            }
            for key in keys
        ]
    }
