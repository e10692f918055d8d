"""What a rehearsal says against a choice: dependencies that must not change, removals, and refusals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tasks.model import PackageState, Selection, Update, UpdateResult
from tasks.rules.selection import excluding_mask, forbidden
from tasks.seams.manager import Rehearsal
from tasks.states import UpdateState

_NOT_CLEARED = "not cleared: too many rehearsals were needed to find what stands in the way"
_ANY_ARCH = frozenset({"noarch", "all"})


@dataclass(frozen=True, slots=True)
class Objections:
    """Why a rehearsed set can't be installed as it is.

    Attributes:
        by_update: update id -> why, for those that the rehearsal itself puts the blame on.
        of_the_whole: what can't be pinned on one update, in words; empty when there is nothing.
    """

    by_update: Mapping[str, str]
    of_the_whole: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sifted:
    """A choice that the package manager would carry out as it stands.

    Attributes:
        rehearsal: of exactly ``chosen``; None when nothing is left.
        rehearsals: how often the package manager was asked.
    """

    chosen: tuple[Update, ...]
    skipped: tuple[UpdateResult, ...]
    rehearsal: Rehearsal | None
    rehearsals: int


def objections(
    chosen: Sequence[Update],
    rehearsal: Rehearsal,
    packages: PackageState,
    selection: Selection,
    *,
    allow_removals: bool,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Objections:
    """Return everything that stands against installing ``chosen``, as one rehearsal of exactly that set shows it.

    Args:
        chosen: what was rehearsed.
        rehearsal: what the package manager said to it.
        packages: the state that ``chosen`` was selected from.
        selection: what was asked for.
        allow_removals: whether packages may be removed.
        left_out: update id -> name, of what was chosen too and can't be installed: it must not come along either.
    """
    ids = {update.id for update in chosen}
    blamed: dict[str, str] = {}
    whole: list[str] = []
    for update_id, words in (rehearsal.refused or {}).items():
        reason = f"the package manager would not install it: {words}"
        if update_id in ids:
            blamed[update_id] = reason
        elif update_id == "":
            whole.append(reason)
    hits = [
        *(f"it would also change {left_out[each]}, which is left out" for each in _needed(rehearsal, left_out)),
        *_forbidden_changes(ids, rehearsal, packages, selection),
        *_removals(rehearsal, packages, selection),
    ]
    if rehearsal.removals and not allow_removals:
        hits.append(f"it would remove {', '.join(sorted(rehearsal.removals))}, and removals are not allowed")
    if len(chosen) == 1:
        blamed.setdefault(chosen[0].id, "; ".join([*whole, *hits])) if whole or hits else None
        return Objections(blamed, ())
    return Objections(blamed, (*whole, *hits))


def _needed(rehearsal: Rehearsal, left_out: Iterable[str]) -> list[str]:
    return sorted(set(left_out) & set(rehearsal.changes))


def _forbidden_changes(
    ids: set[str], rehearsal: Rehearsal, packages: PackageState, selection: Selection
) -> Iterable[str]:
    """Return a sentence for each change beyond the choice that an exclude or a hold forbids."""
    barred = forbidden(packages, selection)
    names = {update.id: update.name for update in packages.updates}
    known_archs = _ANY_ARCH | {update.arch for update in packages.updates}
    for update_id in sorted(set(rehearsal.changes) - ids):
        if update_id in barred:
            yield f"it would also change {names[update_id]}: {barred[update_id]}"
        elif update_id not in names:  # not pending by itself: a new package, or one that only moves along
            why = _barred_name(_names_of(update_id, known_archs), packages, selection)
            if why:
                yield f"it would also change {update_id}: {why}"


def _removals(rehearsal: Rehearsal, packages: PackageState, selection: Selection) -> Iterable[str]:
    """Return a sentence for each removal that is never allowed: of what is excluded or held."""
    archs = _ANY_ARCH | {update.arch for update in packages.updates}
    for name in sorted(rehearsal.removals):
        why = _barred_name(_names_of(name, archs), packages, selection)
        if why:
            yield f"it would remove {name}: {why}"


def _barred_name(names: set[str], packages: PackageState, selection: Selection) -> str:
    mask = excluding_mask(names, selection)
    if mask:
        return f'excluded by mask "{mask}"'
    return "held on the machine by its administrator" if names & set(packages.held) else ""


def _names_of(update_id: str, archs: Iterable[str]) -> set[str]:
    """Return an id, and the name in it when it ends with an architecture, whatever joins the two."""
    ends = tuple(f"{joint}{arch}" for arch in archs if arch for joint in (":", "."))
    return {update_id} | {update_id.removesuffix(end) for end in ends if update_id.endswith(end)}


class _Sifter:
    """Finds the updates to blame by halving, with a bounded number of questions.

    What was left out in one round of ``settled`` is an objection in the next one: who needs it is left out as well.
    """

    def __init__(
        self,
        rehearse: Callable[[Sequence[Update]], Rehearsal],
        judge: Callable[[Sequence[Update], Rehearsal, Mapping[str, str]], Objections],
        at_most: int,
    ) -> None:
        self._rehearse = rehearse
        self._judge = judge
        self._left = at_most
        self._left_out: Mapping[str, str] = {}
        self.asked = 0
        self.skipped: list[UpdateResult] = []

    def settled(self, units: list[list[Update]]) -> tuple[list[list[Update]], Rehearsal | None]:
        """Return the units that can go together and need nothing that was left out, and the rehearsal of just those."""
        while True:
            units, rehearsal = self.clean(units)
            left_out = {result.update.id: result.update.name for result in self.skipped}
            if rehearsal is None or not _needed(rehearsal, left_out):
                return units, rehearsal
            self._left_out = left_out

    def clean(self, units: list[list[Update]]) -> tuple[list[list[Update]], Rehearsal | None]:
        """Return the units that can go together, and the rehearsal of just those. The others land in ``skipped``."""
        while units:
            if self._left <= 0:
                self._skip(units, _NOT_CLEARED)
                break
            rehearsal, found = self._ask(units)
            if found.by_update:
                units = self._drop_blamed(units, found.by_update)
            elif not found.of_the_whole:
                return units, rehearsal
            elif len(units) == 1:
                self._skip(units, "; ".join(found.of_the_whole))
                break
            else:
                return self._halve(units)
        return [], None

    def _halve(self, units: list[list[Update]]) -> tuple[list[list[Update]], Rehearsal | None]:
        middle = len(units) // 2
        first, rehearsal = self.clean(units[:middle])
        second, second_rehearsal = self.clean(units[middle:])
        if not first or not second:
            return (first, rehearsal) if first else (second, second_rehearsal)
        return self._join(first, rehearsal, second)

    def _join(
        self, clean: list[list[Update]], rehearsal: Rehearsal | None, more: list[list[Update]]
    ) -> tuple[list[list[Update]], Rehearsal | None]:
        """Add to a clean set as much as goes together with it; both are clean when each is alone."""
        if self._left <= 0:
            self._skip(more, _NOT_CLEARED)
            return clean, rehearsal
        both = [*clean, *more]
        asked, found = self._ask(both)
        if not found.by_update and not found.of_the_whole:
            return both, asked
        if len(more) == 1:
            words = "; ".join((*found.by_update.values(), *found.of_the_whole))
            self._skip(more, f"not together with the other updates of this run: {words}")
            return clean, rehearsal
        middle = len(more) // 2
        clean, rehearsal = self._join(clean, rehearsal, more[:middle])
        return self._join(clean, rehearsal, more[middle:])

    def _ask(self, units: list[list[Update]]) -> tuple[Rehearsal, Objections]:
        updates = [update for unit in units for update in unit]
        self._left -= 1
        self.asked += 1
        rehearsal = self._rehearse(updates)
        return rehearsal, self._judge(updates, rehearsal, self._left_out)

    def _drop_blamed(self, units: list[list[Update]], blamed: Mapping[str, str]) -> list[list[Update]]:
        """Drop whole units: what belongs together is left out together."""
        kept: list[list[Update]] = []
        for unit in units:
            reasons = {update.id: blamed[update.id] for update in unit if update.id in blamed}
            if not reasons:
                kept.append(unit)
                continue
            culprit = next(update.name for update in unit if update.id in reasons)
            for update in unit:
                reason = reasons.get(update.id, f"it belongs together with {culprit}, which can't be installed")
                self.skipped.append(UpdateResult(update, UpdateState.EXCLUDED, reason))
        return kept

    def _skip(self, units: list[list[Update]], reason: str) -> None:
        self.skipped += [UpdateResult(update, UpdateState.EXCLUDED, reason) for unit in units for update in unit]


def sift(
    chosen: Sequence[Update],
    rehearse: Callable[[Sequence[Update]], Rehearsal],
    packages: PackageState,
    selection: Selection,
    *,
    allow_removals: bool,
    at_most: int = 40,
) -> Sifted:
    """Rehearse, find the updates that stand in the way by halving, and leave out only those and what needs them.

    Args:
        chosen: what was selected.
        rehearse: asks the machine's package manager what installing a set would do.
        packages: the state that ``chosen`` was selected from.
        selection: what was asked for.
        allow_removals: whether packages may be removed.
        at_most: rehearsals; what is not cleared by then is left out and says so.

    Returns:
        The choice that may go, what was left out and why, and the rehearsal of exactly that choice.
    """
    sifter = _Sifter(
        rehearse,
        lambda updates, rehearsal, left_out: objections(
            updates, rehearsal, packages, selection, allow_removals=allow_removals, left_out=left_out
        ),
        at_most,
    )
    units, rehearsal = sifter.settled(units_of(chosen))
    going = {update.id for unit in units for update in unit}
    reasons = {result.update.id: result for result in sifter.skipped}
    return Sifted(
        chosen=tuple(update for update in chosen if update.id in going),
        skipped=tuple(reasons[update.id] for update in chosen if update.id not in going),
        rehearsal=rehearsal if units else None,
        rehearsals=sifter.asked,
    )


def units_of(updates: Iterable[Update]) -> list[list[Update]]:
    """Return updates as what can't be parted: each group whole, each update without a group alone. Order is kept."""
    units: dict[str, list[Update]] = {}
    for update in updates:
        key = f"group {update.group}" if update.group else f"alone {update.id}"
        units.setdefault(key, []).append(update)
    return list(units.values())
