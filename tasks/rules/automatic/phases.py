"""Divides locations into phases: canary locations first, and paired locations never in the same phase. Pure."""

from collections.abc import Collection, Iterable

from tasks.rules.automatic.model import AutomaticPolicy, Phase


def build_phases(
    policy: AutomaticPolicy, locations: Iterable[str], concerned: Collection[str] | None = None
) -> tuple[Phase, ...]:
    """Return the phases of a rollout, the first one for the canary locations. The same input has the same result.

    Canary locations that are paired with each other are in phases of their own, before all others.

    Args:
        policy: says the canary locations and the pairs.
        locations: all locations of the fleet.
        concerned: locations with machines that get updates of the rollout; None: all. A canary location without any
            would test nothing. If that is true of all of them, the first concerned location by name is the canary.
    """
    everywhere = sorted(set(locations), key=_order_by_name)
    wanted = set(everywhere) if concerned is None else set(concerned) & set(everywhere)
    canaries = find_canaries(policy, everywhere)
    if not wanted.intersection(canaries):
        canaries = [location for location in everywhere if location in wanted][:1] or canaries
    others = [location for location in everywhere if location not in canaries]
    pairs = _find_pairs(policy)
    groups = [*_colour(canaries, pairs), *_colour(others, pairs)]
    return tuple(Phase(number, tuple(group)) for number, group in enumerate(groups, start=1))


def find_canaries(policy: AutomaticPolicy, locations: Iterable[str]) -> list[str]:
    """Return the canary locations that exist, or else the first location by name."""
    everywhere = sorted(set(locations), key=_order_by_name)
    return [location for location in everywhere if location in policy.canary_locations] or everywhere[:1]


def _order_by_name(location: str) -> tuple[bool, str]:
    return (not location, location)  # machines without a location are not the canaries if there are others


def _find_pairs(policy: AutomaticPolicy) -> dict[str, set[str]]:
    pairs: dict[str, set[str]] = {}
    for group in policy.paired_locations:
        for location in group:
            pairs.setdefault(location, set()).update(set(group) - {location})
    return pairs


def _colour(locations: list[str], pairs: dict[str, set[str]]) -> list[list[str]]:
    """Return groups without pairs, as few as this way finds: the location with the fewest groups left is next.

    The way is called DSATUR. It finds the fewest groups for pairs, and for groups that have no location in common.
    """
    groups: list[list[str]] = []
    left = list(locations)
    while left:
        chosen = max(left, key=lambda each: (_count_closed(each, groups, pairs), len(pairs.get(each, ()))))
        left.remove(chosen)
        fitting = (group for group in groups if not pairs.get(chosen, set()).intersection(group))
        group = next(fitting, None)
        if group is None:
            groups.append([chosen])
        else:
            group.append(chosen)
    return [sorted(group, key=_order_by_name) for group in groups]


def _count_closed(location: str, groups: list[list[str]], pairs: dict[str, set[str]]) -> int:
    return sum(bool(pairs.get(location, set()).intersection(group)) for group in groups)
