"""The packages that a run replaces and keeps for an undo, and what an undo can't have without them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.model import Finding, Update
from tasks.domain.protocols.package_manager import WayBack
from tasks.rules.machine_checks.precheck import MAX_RESERVE_BYTES, RESERVE_FACTOR

KEEP_CHECK: Final = "keep-previous"
MAX_KEPT_BYTES: Final = 1024**3
"""How much a run keeps on a machine, at most."""
_NOT_HERE = "keep_previous: what this run replaces is not kept here: with this package manager, fleetpatch can't"
_REASONS: Final = {
    "lost": "neither the machine nor its repositories have the file of",
    "full": f"no room ({MAX_KEPT_BYTES // 1024**2} MiB a run at most, and the machine's reserve) for",
    "late": "no time left for",
}
"""Why packages are not kept, by the field of the job's record."""


def build_keep_parameters(run_id: str, updates: Iterable[Update]) -> dict[str, str]:
    """Return what a download is told so that it keeps what is replaced, and leaves room for the installation."""
    reserve = MAX_RESERVE_BYTES + RESERVE_FACTOR * sum(update.size_bytes or 0 for update in updates)
    return {"keep": run_id, "keep_bytes": str(MAX_KEPT_BYTES), "keep_reserve": str(reserve)}


def describe_no_way_back(chosen: Iterable[Update], way_back: WayBack, *, keep: bool = False) -> tuple[str, ...]:
    """Return notes of a plan that installs: what an undo by packages can't take back, as far as it is known.

    ``keep``: the run keeps the packages that it replaces, where fleetpatch can.
    """
    updates = [update for update in chosen if update.installed is not None and not update.goes_back]
    if way_back.removes or not updates:
        return ()
    not_here = (_NOT_HERE,) if keep and not way_back.keeps else ()
    if way_back.obstacle or not way_back.caution:
        return not_here
    lost = [update.name for update in updates if update.previous_offered is False]
    unknown = sum(update.previous_offered is None for update in updates)
    count, names = f"{len(lost)} of {len(updates)}", join_first_names(lost)
    if keep and way_back.keeps:
        only = f"not in the repositories any more: {count}. Kept only if the package manager's cache has them: {names}"
        return ("what this run replaces is kept on the machine for an undo", *([only] if lost else ()))
    no_way = f"not undoable here by packages: {count} (the repositories keep only the newest version): {names}"
    not_known = f"whether packages can be taken back is not known before: {unknown} of {len(updates)}"
    if way_back.keeps:
        no_way += ". keep_previous keeps all others, and of these what the package manager's cache has"
    return (*not_here, *([no_way] if lost else ()), *([not_known] if unknown else ()))


def describe_kept(record: Mapping[str, object] | None, failure: str) -> Finding:
    """Return the finding about what a run has kept, by its job's record. ``failure`` is that of the download ahead."""
    told = str((record or {}).get("failure") or "")
    if record is None or "total" not in record:
        why = told or failure or "the download ahead of the installation did not come so far"
        return Finding.remark(KEEP_CHECK, f"kept none of the packages that this run replaces: {why}")
    counts = f"kept {record.get('kept')} of {record.get('total')} packages that this run replaces"
    missing = {field: [word.partition("=")[0] for word in str(record.get(field) or "").split()] for field in _REASONS}
    reasons = [f"{_REASONS[field]} {join_first_names(names)}" for field, names in missing.items() if names]
    if reasons := [*reasons, *filter(None, [told])]:
        return Finding.remark(KEEP_CHECK, f"{counts}; not kept: {'; '.join(reasons)}")
    return Finding.good(KEEP_CHECK, counts)
