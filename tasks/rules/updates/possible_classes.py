"""Tells classifications that updates of machines can't have, by their package managers. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from inventory.name_lists import format_count
from tasks.domain.states import Classification, include_esm

_COVERING: Final = {
    Classification.CRITICAL: Classification.SECURITY,
    Classification.SECURITY_ESM: Classification.SECURITY,
}
"""Where a manager does not tell these apart, such an update has the other classification."""


def find_impossible_classes(
    named: Collection[Classification],
    managers: Iterable[str],
    possible: Mapping[str, frozenset[Classification]],
    usual: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return sentences about classifications that updates of these machines can't have, or perhaps can't.

    A classification that no machine can have is no fault beside the one that such updates have there: Critical beside
    Security.

    Args:
        named: what a key names; empty: nothing.
        managers: the package manager of each machine; "" for one that is not known.
        possible: what updates of each package manager can have.
        usual: the package managers that a machine may have of which nothing is known.
    """
    classes = include_esm(frozenset(named))
    counts = Counter(manager for manager in managers if not manager or manager in possible)
    if not classes or not counts:
        return ()
    text = _join(named)
    sentences = []
    for manager, count in sorted(counts.items()):
        known = (manager,) if manager else usual
        lacking = [name for name in known if classes.isdisjoint(possible[name])]
        machines = format_count(count, "machine")
        if manager and lacking:
            known_text = _join(possible[manager])
            sentences.append(f"no update of {machines} with {manager} can be {text}: {manager} knows {known_text}")
        elif lacking:
            sentences.append(
                f"whether updates of {machines} can be {text} is not known before their first assessment:"
                f" {', '.join(lacking)} can't tell"
            )
    possible_classes = {kind for manager in counts if manager for kind in possible[manager]}
    never = {kind for kind in set(named) - possible_classes if "" not in counts and _COVERING.get(kind) not in classes}
    if never and not sentences:
        sentences.append(f"no update of these machines ({', '.join(sorted(counts))}) can be {_join(never)}")
    return tuple(sentences)


def _join(classes: Collection[Classification]) -> str:
    return ", ".join(kind.value for kind in Classification if kind in classes)
