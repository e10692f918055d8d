"""Describes the live patches of a machine. Pure."""

from inventory.name_lists import join_first_names
from tasks.domain.model import LivePatching

_MAX_NAMES_SHOWN = 3


def describe_live_patching(live: LivePatching | None) -> str:
    """Return the provider, its state and patches, the number of CVEs, and what is lacking; "" without live patches."""
    if live is None:
        return ""
    names = join_first_names(live.patches, _MAX_NAMES_SHOWN) if live.patches else ""
    parts = [f"{live.provider}: {live.state}", names]
    if live.cves:
        parts.append(f"fixes {len(live.cves)} CVE{'s' * (len(live.cves) != 1)}")
    if live.unfixed_cves:
        parts.append(f"a newer kernel also fixes {join_first_names(live.unfixed_cves, _MAX_NAMES_SHOWN)}")
    if live.problem:
        parts.append(f"problem: {live.problem}")
    return "; ".join(filter(None, parts))
