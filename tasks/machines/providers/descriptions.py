"""What fleetpatch writes into the description of a snapshot, where the provider has no other place for it."""

import re

from tasks.domain.provided_machines import Consistency

_FORM = re.compile(r"\s*fleetpatch snapshot (\S+) \(([a-z-]+)\)\s*")


def write_description(snapshot_id: str, consistency: Consistency) -> str:
    """Return the description of a snapshot of ours."""
    return f"fleetpatch snapshot {snapshot_id} ({consistency})"


def read_description(text: object) -> tuple[str, Consistency] | None:
    """Return the id and the consistency of a snapshot; None: it is not ours."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    known = {str(one): one for one in Consistency}
    return match[1], known.get(match[2], Consistency.UNKNOWN)
