"""Masks of a request that match no pending update: a name was misspelt, or all is installed already."""

from collections.abc import Iterable

from inventory.files.problems import did_you_mean
from tasks.domain.assessment import Update
from tasks.domain.model import MachinePlan, Selection
from tasks.rules.updates.selection import has_matching_name


def describe_unmatched_masks(selection: Selection, plans: Iterable[MachinePlan]) -> tuple[str, ...]:
    """Return a sentence for each mask that matches no pending update of the planned machines.

    An exclude mask stands in a configuration for good, and often matches nothing. It is told only when the name of a
    pending update is close to it: then an update may be chosen that should have been left out.

    Args:
        selection: the masks.
        plans: what is known of the machines. Without a plan nothing is known, and nothing is said.
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
