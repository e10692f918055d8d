"""Builds machine sets from their entries: finds the members, and checks a set against them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from operator import itemgetter

from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.files.problems import LocatedData, ProblemCollector, did_you_mean
from inventory.machine import Check, Inventory, Machine, MachineSet, RoleSource, SetAction
from inventory.name_lists import format_count
from inventory.schema.entries import SetActionEntry, SetEntry, split_share
from inventory.schema.validation import validate_mapping
from inventory.scope import Scope

logger = logging.getLogger(__name__)

Rule = tuple[str, str, str]
"""The key at fault, the message and the hint."""


@dataclass(frozen=True, slots=True)
class SetDraft:
    """A set from one file. Its members are not yet known."""

    entry: SetEntry
    source: LocatedData


def read_set_drafts(located: LocatedData, problems: ProblemCollector) -> tuple[SetDraft, ...]:
    """Return the sets under `sets:` of a file."""
    if located.data is None:
        return ()
    if not isinstance(located.data, list):
        problems.add(located.locate(), "`sets` is a list", "Write each set as `- name: ...`.")
        return ()
    parts = [located.get_child(index) for index in range(len(located.data))]
    entries = [(validate_mapping(SetEntry, part, problems, "`name:` and `scope:`"), part) for part in parts]
    return tuple(SetDraft(entry, part) for entry, part in entries if entry is not None)


def build_sets(drafts: Sequence[SetDraft], inventory: Inventory, problems: ProblemCollector) -> tuple[MachineSet, ...]:
    """Return the sets with their members."""
    by_name = {machine.name: machine for machine in inventory.machines}
    machine_sets = []
    for draft in _leave_out_duplicates(drafts, problems):
        members = _find_members(draft, inventory, problems)
        if not members:
            continue
        machine_set = _build_set(draft.entry, members)
        machines = [by_name[name] for name in members]
        for key, message, hint in (*_find_faults(machine_set, machines), *_find_order_faults(machine_set, machines)):
            problems.add(draft.source.locate((key,)), f"the set {machine_set.name!r}: {message}", hint)
        if machine_set.drain is not None and machine_set.undrain is None:
            logger.warning("the set %s has `drain` and no `undrain`: nothing brings its members back", machine_set.name)
        if machine_set.drain is not None and not machine_set.healthy:
            logger.warning(
                "the set %s has `drain` and no `healthy`: no run sees a member that stays drained", machine_set.name
            )
        machine_sets.append(machine_set)
    ordered = [candidate for candidate in machine_sets if candidate.order and candidate.role and candidate.role.tag]
    order_locations = {draft.entry.name: draft.source.locate(("order",)) for draft in drafts}
    hint = "Neither could ever begin. Correct one of the two orders."
    names_by_set = {candidate.name: frozenset(candidate.members) for candidate in ordered}
    for first_set, later_set in combinations(ordered, 2):
        if names_by_set[first_set.name].isdisjoint(later_set.members):
            continue
        if (pair := _find_contradiction(first_set, later_set, by_name)) is not None:
            first, later = pair
            message = f"{later} comes before {first}, and in the set {first_set.name!r} after it"
            problems.add(order_locations[later_set.name], f"the set {later_set.name!r}: {message}", hint)
    return tuple(machine_sets)


def _leave_out_duplicates(drafts: Sequence[SetDraft], problems: ProblemCollector) -> Iterator[SetDraft]:
    lower: dict[str, SetDraft] = {}
    for draft in drafts:
        twin = lower.setdefault(draft.entry.name.lower(), draft)
        if twin is draft:
            yield draft
            continue
        fault = "stands here twice" if twin.entry.name == draft.entry.name else "differs from another only in case"
        message = f"the set {draft.entry.name!r} {fault}, first in {twin.source.locate().short}"
        problems.add(draft.source.locate(("name",)), message, "Remove or rename one of the two.")


def _find_members(draft: SetDraft, inventory: Inventory, problems: ProblemCollector) -> tuple[str, ...]:
    try:
        return tuple(machine.name for machine in Scope.parse(draft.entry.scope).select_machines(inventory))
    except InventoryError as error:
        message = f"the set {draft.entry.name!r}: {error.message}"
        problems.add(draft.source.locate(("scope",)), message, error.hint)
        return ()


def _build_set(entry: SetEntry, members: tuple[str, ...]) -> MachineSet:
    count, percent = split_share(entry.max_unavailable) if entry.max_unavailable is not None else (None, None)
    return MachineSet(
        name=entry.name,
        scope=entry.scope,
        members=members,
        max_unavailable=count,
        max_unavailable_percent=percent,
        update_domain=entry.update_domain or "",
        role=(
            RoleSource(entry.role.tag or "", entry.role.command or "", entry.role.timeout_seconds)
            if entry.role
            else None
        ),
        order=tuple(entry.order or ()),
        quorum=entry.quorum,
        drain=_to_action(entry.drain),
        undrain=_to_action(entry.undrain),
        healthy=tuple(Check(**check.model_dump()) for check in entry.healthy or ()),
        healthy_seconds=entry.healthy_minutes * 60,
    )


def _to_action(entry: SetActionEntry | None) -> SetAction | None:
    return SetAction(entry.kind, entry.target, entry.timeout_minutes * 60, entry.repeatable) if entry else None


def _find_contradiction(one: MachineSet, other: MachineSet, by_name: Mapping[str, Machine]) -> tuple[str, str] | None:
    """Return two machines of which the first comes first in one set, and the second in the other set."""
    shared = set(other.members)
    ranked = sorted(
        (_find_rank(one, by_name[name]), _find_rank(other, by_name[name]), name)
        for name in one.members
        if name in shared
    )
    last: tuple[int, str] | None = None  # of the earlier roles of the first set, the one that comes last in the other
    for _, group in groupby(ranked, key=itemgetter(0)):
        members = [(rank, name) for _, rank, name in group]
        earliest = min(members)
        if last is not None and earliest[0] < last[0]:
            return last[1], earliest[1]
        last = max([*members, *filter(None, [last])])
    return None


def _find_rank(machine_set: MachineSet, machine: Machine) -> int:
    role = machine_set.role.find_in_tags(machine.tags) if machine_set.role else ""
    return machine_set.order.index(role) if role in machine_set.order else -1


def _find_faults(machine_set: MachineSet, members: Sequence[Machine]) -> Iterator[Rule]:
    count, quorum = len(members), machine_set.quorum
    if quorum is not None and quorum >= count:
        message = f"with a quorum of {quorum} and {format_count(count, 'member')}, none could ever be patched"
        yield "quorum", message, "Give fewer than there are members, or correct `scope`."
    elif (site := _find_blocked_site(machine_set, members)) is not None:
        message = f"members of other sites count as out of service, so none of the site {site} could ever be patched"
        hint = "Give a set for each site, or limits that leave room for all members of the other sites."
        yield "scope", message, hint
    known_tags = sorted({name for machine in members for name in machine.tags})
    role_tag = machine_set.role.tag if machine_set.role else ""
    for key, tag in (("update_domain", machine_set.update_domain), ("role", role_tag)):
        # otherwise a typing error would switch the rule off
        if tag and not any(machine.tags.get(tag) for machine in members):
            hint = f"{did_you_mean(tag, known_tags)}Tags of its members are {', '.join(known_tags) or 'none'}."
            yield key, f"no member has a tag {tag!r}", hint


def _find_blocked_site(machine_set: MachineSet, members: Sequence[Machine]) -> str | None:
    """Return a site of which no member could leave a set, because no run can ask the members of another one."""
    for site in sorted({machine.site for machine in members}):
        elsewhere = [machine for machine in members if machine.site != site]
        is_beyond_limit = len(elsewhere) >= machine_set.allowed_unavailable
        is_below_quorum = len(members) - len(elsewhere) <= (machine_set.quorum or 0)
        domains = {machine.tags.get(machine_set.update_domain or "", "") for machine in elsewhere}
        if elsewhere and (is_beyond_limit or is_below_quorum or len(domains) > 1):
            return site
    return None


def _find_order_faults(machine_set: MachineSet, members: Sequence[Machine]) -> Iterator[Rule]:
    if not machine_set.order:
        return
    twice = next((role for role in machine_set.order if machine_set.order.count(role) > 1), None)
    if twice is not None:
        yield "order", f"the role {twice!r} stands here twice", "Remove one of the two."
    if machine_set.role is None:
        hint = "Say with `role` how the role of a member is found: `role: {tag: role}` or `role: {command: ...}`."
        yield "order", "an order of roles, and no role", hint
    elif machine_set.role.tag:
        # with a typing error in the last role, its members would come first
        known_roles = sorted({machine_set.role.find_in_tags(machine.tags) for machine in members} - {""})
        for role in machine_set.order if known_roles else ():
            if role not in known_roles:
                hint = f"{did_you_mean(role, known_roles)}Roles of its members are {', '.join(known_roles)}."
                yield "order", f"no member has the role {role!r}", hint
