"""Selects pending updates. Masks are those of Azure's Linux agent: shell-style; an exclude always wins. Pure.

Notes tell what people should know of a selection: masks that match nothing, limits that could not be applied, and
server products, whose services may stop while they are updated.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

from inventory.files.problems import did_you_mean
from inventory.name_lists import join_first_names
from tasks.domain.assessment import TRY_AGAIN, build_sight_key, build_update_key, strip_update_id
from tasks.domain.model import MachinePlan, NotHeld, PackageState, PinnedUpdates, Selection, Update, UpdateResult
from tasks.domain.states import Classification, Severity, UpdateState, include_esm
from tasks.rules.calendar.local_time import format_date_and_time

_WILDCARDS = frozenset("*?[")

SelectionResult = tuple[tuple[Update, ...], tuple[UpdateResult, ...]]


def select_updates(packages: PackageState, selection: Selection) -> SelectionResult:
    """Return the chosen updates, and the skipped updates with reasons. Together they are all pending updates.

    An exclude mask has priority, then a hold of the machine's administrator. Other updates are selected by their
    classification and severity or by an include mask, optional ones only by a mask. Security includes Security-ESM. A
    selected update is Blocked when the machine can't install it (``blocked``), or when it is ``given_up`` and no
    include mask without wildcards names it. It is Excluded when its licence terms may not be accepted, when it is
    newer than ``published_before``, or when it needs a reboot and the request excludes such updates. Its date is its
    publication, or else its first sight in the fleet. If the date or the reboot need is unknown, the update stays
    chosen (see ``describe_unapplied_limits``).

    An update of what installs updates goes with the classifications that may need it (``needed_by_classes``), whatever
    its own classification and severity.

    If only security fixes of a package are selected, the version is the newest one from an origin of security fixes,
    unless the selection has ``newest``. A new package that only another version of an update needs is not chosen.

    With ``only_not_held``, what has to wait is not chosen, whatever selects it.

    With ``pinned_updates``, only their names and versions are chosen: the newest of them that is still offered, also
    when there is a newer version by now.
    """
    chosen: list[Update] = []
    skipped: dict[str, UpdateResult] = {}
    held = frozenset(packages.held)
    pending = tuple(
        _pin_to_tested_version(_pin_to_security_version(update, selection), selection.pinned_updates)
        for update in packages.updates
    )
    for update in pending:
        skip_result = _find_skip_result(update, held, selection)
        if skip_result is None:
            chosen.append(update)
        else:
            skipped[update.id] = skip_result
    by_id = {update.id: update for update in reversed(chosen)}
    for update_id, newer in _find_superseded(chosen).items():
        old = by_id[update_id]
        reason = f"superseded by {newer.name}, which includes it"
        skipped[update_id] = UpdateResult(old, UpdateState.NOT_SELECTED, reason)
    for new, reason in _find_unneeded_packages(packages, chosen, skipped, selection):
        skipped[new.id] = UpdateResult(new, UpdateState.NOT_SELECTED, reason)
    selected = tuple(update for update in chosen if update.id not in skipped)
    return selected, tuple(skipped[update.id] for update in pending if update.id in skipped)


def describe_unapplied_limits(chosen: Iterable[Update], selection: Selection) -> tuple[str, ...]:
    """Return notes about limits that could not be applied to chosen updates, and on licence terms that they need."""
    chosen = tuple(chosen)
    notes: list[str] = []
    if selection.pinned_updates is not None:
        notes.append(f"only what run {selection.pinned_updates.run_id} has tested is chosen")
    licensed = [update.name for update in chosen if update.needs_licence]
    if licensed:
        notes.append(f"licence terms are accepted, as the request says, of {join_first_names(licensed)}")
    again = (update for update in chosen if update.given_up)
    notes += [f"{update.name} is tried again, as the request names it: {update.given_up}" for update in again]
    unknown_reboot = [update.name for update in chosen if update.requires_reboot is None]
    if selection.exclude_requiring_reboot and unknown_reboot:
        notes.append(f"kept although it is not known whether they need a reboot: {join_first_names(unknown_reboot)}")
    undated = [update.name for update in chosen if selection.published_before and _find_date(update, selection) is None]
    if undated:
        notes.append(f"kept although their day of publication is not known: {join_first_names(undated)}")
    return tuple(notes)


def find_forbidden_updates(packages: PackageState, selection: Selection) -> dict[str, UpdateResult]:
    """Return the pending updates that must not be installed, not even as dependencies: update id -> result."""
    _, skipped = select_updates(packages, selection)
    forbidden = (UpdateState.EXCLUDED, UpdateState.BLOCKED)
    return {result.update.id: result for result in skipped if result.state in forbidden}


def find_exclude_mask(names: Iterable[str], selection: Selection) -> str:
    """Return the first exclude mask that matches one of the names, or "". Ignore a version in the mask."""
    names = tuple(names)
    for mask in selection.exclude:
        mask_name = _parse_mask_name(mask)
        if mask_name and any(fnmatchcase(name, mask_name) for name in names):
            return mask
    return ""


def get_exclude_name_masks(selection: Selection) -> tuple[str, ...]:
    """Return the name parts of the exclude masks, for scripts that compare names on the machine."""
    return tuple(dict.fromkeys(filter(None, map(_parse_mask_name, selection.exclude))))


def _find_unneeded_packages(
    packages: PackageState, chosen: Sequence[Update], skipped: Mapping[str, UpdateResult], selection: Selection
) -> Iterator[tuple[Update, str]]:
    """Yield the chosen new packages whose update is not chosen in the version that needs them, and the reason.

    Add each to ``skipped`` before the next one: it may need further new packages, which come after it.
    """
    offered = {update.id: update for update in packages.updates}
    versions = {update.id: update.available for update in chosen}
    for new in chosen:
        by = offered.get(new.needed_by)
        if by is None or _is_named(new, selection):
            continue
        if by.id in skipped or versions.get(by.id) != by.available:
            yield new, f"only {by.name} {by.available} needs it, which is not chosen"


def _parse_mask_name(mask: str) -> str:
    return mask.partition("=")[0].strip()


def _pin_to_security_version(update: Update, selection: Selection) -> Update:
    """Return an update, in its security version if only security fixes are selected."""
    if not update.security_version or selection.newest:
        return update
    others_wanted = Classification.OTHER in selection.classifications
    is_masked = any(has_matching_name(mask, update) for mask in selection.include)
    others_wait = selection.only_not_held is not None and not is_not_held(
        replace(update, classification=Classification.OTHER), selection.only_not_held
    )
    if (others_wanted or is_masked) and not others_wait:
        return update
    older = update.older_versions
    number = older.index(update.security_version) + 1 if update.security_version in older else len(older)
    secure = replace(update, available=update.security_version, security_version="", vendor_change="")
    return replace(secure, older_versions=older[number:], published=None)


def _pin_to_tested_version(update: Update, frozen: PinnedUpdates | None) -> Update:
    """Return an update in the newest version that pinned updates have and that is still offered, if there is one."""
    if frozen is None or update.key in frozen.updates:
        return update
    for number, version in enumerate(update.older_versions, start=1):
        if build_update_key(update.name, update.id, version) in frozen.updates:
            other_versions = update.older_versions[number:]
            tested = replace(update, available=version, security_version="", older_versions=other_versions)
            return replace(tested, published=None)
    return update


def _find_skip_result(update: Update, held: frozenset[str], selection: Selection) -> UpdateResult | None:
    """Return the result of a skipped update, or None when it is chosen."""
    mask = next((mask for mask in selection.exclude if has_matching_name(mask, update)), None)
    if mask is not None:
        return UpdateResult(update, UpdateState.EXCLUDED, f'excluded by mask "{mask}"')
    if update.held or update.name in held:
        return UpdateResult(update, UpdateState.EXCLUDED, "a hold on the machine excludes it")
    only = selection.only_not_held
    not_selected_reason = (
        _check_classification(update, selection)
        or _check_severity(update, selection)
        or _check_pinned_version(update, selection.pinned_updates)
        or ("" if only is None or is_not_held(update, only) else "it is held until its package is applied")
    )
    if not_selected_reason:
        return UpdateResult(update, UpdateState.NOT_SELECTED, not_selected_reason)
    if update.blocked:
        return UpdateResult(update, UpdateState.BLOCKED, f"it can't be installed on this machine: {update.blocked}")
    if update.given_up and not _is_named(update, selection):
        return UpdateResult(update, UpdateState.BLOCKED, f"{update.given_up}; {TRY_AGAIN}")
    excluded_reason = _check_install_limits(update, selection)
    return UpdateResult(update, UpdateState.EXCLUDED, excluded_reason) if excluded_reason else None


def _check_classification(update: Update, selection: Selection) -> str:
    is_wanted = update.classification in include_esm(selection.classifications) and not update.optional
    is_masked = any(_is_included_by_mask(mask, update) for mask in selection.include)
    if is_wanted or is_masked or _is_needed(update, selection):
        return ""
    near = next((mask for mask in selection.include if has_matching_name(mask, update)), None)
    if near is not None:
        return f'include mask "{near}" asks for another version than {update.available}, which is offered'
    if update.optional:
        return f"it is {update.optional}, {update.blocked or 'which only an include mask selects'}"
    selected = ", ".join(sorted(selection.classifications)) or "none"
    masks = " and no include mask names it" if selection.include else ""
    return f"classification {update.classification} is not selected (selected: {selected}){masks}"


def _is_needed(update: Update, selection: Selection) -> bool:
    """Return whether updates that the selection includes by their classification may need an update first."""
    return not update.optional and not selection.classifications.isdisjoint(update.needed_by_classes)


def _check_severity(update: Update, selection: Selection) -> str:
    severities = selection.severities
    if not severities or Severity.rate(update.severity) in severities or _is_needed(update, selection):
        return ""
    if any(_is_included_by_mask(mask, update) for mask in selection.include):
        return ""
    selected = ", ".join(severity for severity in Severity if severity in severities)
    return f"severity {update.severity or Severity.UNSPECIFIED} is not selected (selected: {selected})"


def _check_pinned_version(update: Update, frozen: PinnedUpdates | None) -> str:
    """Return why pinned updates exclude an update, or "". Versions are only compared for equality."""
    if frozen is None or update.key in frozen.updates:
        return ""
    tested = sorted({strip_update_id(version) for name, version in frozen.updates if name == update.name})
    if update.available in tested:
        return f"run {frozen.run_id} has tested another {update.name} {update.available}, not the one that is offered"
    if not tested:
        return f"run {frozen.run_id}, whose updates this run uses, has not installed it"
    return f"run {frozen.run_id} has tested {join_first_names(tested)}, and not {update.available}, which is offered"


def is_not_held(update: Update, not_held: NotHeld) -> bool:
    """Return whether an update does not wait until its package is applied. What such an update may need does not."""
    kinds = {update.classification, *(() if update.optional else update.needed_by_classes)}
    return not not_held.classifications.isdisjoint(kinds) or any(
        has_matching_name(mask, update) for mask in not_held.masks
    )


def _check_install_limits(update: Update, selection: Selection) -> str:
    if update.needs_licence and not selection.accept_licences:
        return "its licence terms are not accepted on the machine, and the request does not accept them"
    limit = selection.published_before
    date = _find_date(update, selection) if limit is not None else None
    if limit is not None and date is not None and date > limit:
        known_as = "published" if update.published else "of unknown publication, and first seen in the fleet"
        return f"{known_as} {format_date_and_time(date)}, after the limit of {format_date_and_time(limit)}"
    if selection.exclude_requiring_reboot and update.requires_reboot:
        return "it needs a reboot, and the request excludes such updates"
    return ""


def _find_date(update: Update, selection: Selection) -> datetime | None:
    key = build_sight_key(update.key)
    return update.published or next((seen_at for seen, seen_at in selection.first_seen if seen == key), None)


def _is_named(update: Update, selection: Selection) -> bool:
    """Return whether an include mask without wildcards names an update: somebody means just this one."""
    names = (mask for mask in selection.include if not _WILDCARDS.intersection(_parse_mask_name(mask)))
    return any(_is_included_by_mask(mask, update) for mask in names)


def matches_update(mask: str, update: Update) -> bool:
    """Return whether the mask matches the update's id, or selects it in a request: by name, number or title."""
    return has_matching_name(mask, update) or any(fnmatchcase(name, mask) for name in (update.id, update.kb) if name)


def has_matching_name(mask: str, update: Update) -> bool:
    """Return whether the name part of a mask matches the name (with or without its architecture), KB or title."""
    mask_name = _parse_mask_name(mask)
    if not mask_name:
        return False
    bare = update.name
    for joint in (".", ":"):
        bare = bare.removesuffix(f"{joint}{update.arch}") if update.arch else bare
    names = {update.name, bare, f"{bare}:{update.arch}"}
    if update.kb or update.title:  # such names are numbers and titles, so case is ignored
        numbers = [number.lower().removeprefix("kb") for number in update.kb.split("+") if number]
        names |= {update.title, *numbers, *(f"kb{number}" for number in numbers)}
        mask_name, names = mask_name.lower(), {name.lower() for name in names if name}
    return any(fnmatchcase(name, mask_name) for name in names)


def _is_included_by_mask(mask: str, update: Update) -> bool:
    _, pinned, version = mask.partition("=")
    return has_matching_name(mask, update) and (not pinned or fnmatchcase(update.available, version.strip()))


def _find_superseded(chosen: list[Update]) -> dict[str, Update]:
    """Return the chosen updates that another chosen update replaces: id of the old update -> newer update.

    The search starts from updates that no other update replaces. So if a catalogue says "A replaces B" and "B replaces
    A", both stay.
    """
    by_name: dict[str, list[Update]] = {}  # an index: to compare all pairs would take too long for a malicious machine
    for update in chosen:
        for name in {update.id, update.kb} - {""}:
            by_name.setdefault(name, []).append(update)
    older = {
        newer.id: {old.id: old for name in newer.replaces for old in by_name.get(name, ()) if old is not newer}.values()
        for newer in chosen
    }
    replaced = {old.id for olds in older.values() for old in olds}
    dropped: dict[str, Update] = {}
    waiting = [update for update in chosen if update.id not in replaced]
    while waiting:
        newer = waiting.pop()
        for old in older[newer.id]:
            if old.id not in dropped:
                dropped[old.id] = newer
                waiting.append(old)
    return dropped


def describe_unmatched_masks(selection: Selection, plans: Iterable[MachinePlan]) -> tuple[str, ...]:
    """Return a sentence for each mask that matches no pending update of the planned machines.

    An exclude mask stands in a configuration for good, and often matches nothing. It is told only when the name of a
    pending update is close to it: then an update may be chosen that should have been left out. Without a plan nothing
    is known, and nothing is said.
    """
    if not selection.include and not selection.exclude:
        return ()
    updates = dict[tuple[str, str, str], Update]()
    for plan in plans:
        for update in (*plan.chosen, *(result.update for result in plan.skipped)):
            updates.setdefault((update.name, update.arch, update.title), update)
    if not updates:
        return ()
    names = {update.name for update in updates.values()}
    sentences = []
    for option, masks in (("include", selection.include), ("exclude", selection.exclude)):
        for mask in masks:
            if any(has_matching_name(mask, update) for update in updates.values()):
                continue
            suggestion = did_you_mean(mask.partition("=")[0].strip(), names)
            if option == "include" or suggestion:
                sentences.append(f"no pending update matches the {option} mask {mask!r}. {suggestion}".rstrip())
    return tuple(sentences)


_PRODUCTS: Final = (
    ("SQL Server", re.compile(r"\bSQL Server\b(?! Management Studio)", re.IGNORECASE)),
    ("Exchange Server", re.compile(r"\bExchange Server\b", re.IGNORECASE)),
    ("SharePoint Server", re.compile(r"\bSharePoint (?:Enterprise )?Server\b", re.IGNORECASE)),
)
_CLIENT_PATTERN: Final = re.compile(r"\b(?:driver|OLE DB|ODBC)\b", re.IGNORECASE)
"""Titles of what only talks to a product."""


def describe_server_products(updates: Iterable[Update]) -> tuple[str, ...]:
    """Return a note for each server product that has updates among these."""
    names_by_product: dict[str, list[str]] = {}
    for update in updates:
        title = update.title or update.name
        if _CLIENT_PATTERN.search(title):
            continue
        for product, pattern in _PRODUCTS:
            if pattern.search(title):
                names_by_product.setdefault(product, []).append(update.name)
    return tuple(
        f"updates of {product}: {join_first_names(names)}; they may stop its services while they are installed; for a "
        f"run of their own, exclude *{product}* here"
        for product, names in names_by_product.items()
    )
