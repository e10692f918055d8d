"""What has to be done so that what is there becomes what is wanted. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields

from deployments.deploying.model import Automation, Change, Deployment, Doing, Pool, ScheduleLine, Setup

_SHOWN = 80  # characters of a value in a difference


def changes(wanted: Setup, found: Setup, *, prune: bool = True) -> tuple[Change, ...]:
    """Return what has to be done, in an order in which it can be: pools first, what is gone last.

    Args:
        wanted: what should be there.
        found: what is there and belongs to the same fleet.
        prune: whether what is not wanted any more is removed. Work pools never are: others may use them.
    """
    done = [
        *_compared("work pool", wanted.pools, found.pools),
        *_compared("deployment", wanted.deployments, found.deployments),
        *_compared("automation", wanted.automations, found.automations),
    ]
    if prune:
        done += _left("automation", wanted.automations, found.automations)
        done += _left("deployment", wanted.deployments, found.deployments)
    return tuple(done)


def settled(done: Sequence[Change]) -> bool:
    """Whether nothing has to be done."""
    return all(change.doing is Doing.KEEP for change in done)


Thing = Deployment | Automation | Pool


def _name(thing: Thing) -> str:
    return thing.full_name if isinstance(thing, Deployment) else thing.name


def _compared(kind: str, wanted: Sequence[Thing], found: Sequence[Thing]) -> list[Change]:
    there = {_name(thing): thing for thing in found}
    made = []
    for thing in wanted:
        name = _name(thing)
        if name not in there:
            made.append(Change(Doing.CREATE, kind, name))
            continue
        differences = tuple(_differences(thing, there[name]))
        made.append(Change(Doing.UPDATE if differences else Doing.KEEP, kind, name, differences))
    return made


def _left(kind: str, wanted: Sequence[Thing], found: Sequence[Thing]) -> list[Change]:
    names = {_name(thing) for thing in wanted}
    return [Change(Doing.REMOVE, kind, _name(thing)) for thing in found if _name(thing) not in names]


def _differences(wanted: Thing, found: Thing) -> list[str]:
    told: list[str] = []
    for each in fields(wanted):
        ours, theirs = getattr(wanted, each.name), getattr(found, each.name)
        if ours == theirs:
            continue
        if each.name == "schedules":
            told += _schedules(ours, theirs)
        elif each.name == "schema":
            told.append(_form(_keys("", ours, theirs)))
        elif isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            told += _keys(each.name, ours, theirs)
        else:
            told.append(f"{each.name}: {_short(theirs)} → {_short(ours)}")
    return told


def _schedules(wanted: Sequence[ScheduleLine], found: Sequence[ScheduleLine]) -> list[str]:
    ours, theirs = {line.slug: line for line in wanted}, {line.slug: line for line in found}
    told = [f"schedule {slug}: missing" for slug in ours.keys() - theirs.keys()]
    told += [f"schedule {slug}: not ours" for slug in theirs.keys() - ours.keys()]
    for slug in ours.keys() & theirs.keys():
        if ours[slug] != theirs[slug]:
            parts = [
                f"{name} {_short(getattr(theirs[slug], name))} → {_short(getattr(ours[slug], name))}"
                for name in ("rule", "zone", "active", "every", "anchor")
                if getattr(ours[slug], name) != getattr(theirs[slug], name)
            ]
            told.append(f"schedule {slug}: {', '.join(parts)}")
    return sorted(told)


def _keys(what: str, wanted: Mapping[str, object], found: Mapping[str, object], path: str = "") -> list[str]:
    """Return the keys that differ, down to the deepest: a form's whole content is no help."""
    told: list[str] = []
    for key in sorted(wanted.keys() | found.keys()):
        ours, theirs, here = wanted.get(key), found.get(key), f"{path}.{key}" if path else key
        if ours == theirs:
            continue
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            told += _keys(what, ours, theirs, here)
        else:
            told.append(f"{what} {here}: {_short(theirs)} → {_short(ours)}")
    return told


def _form(differences: Sequence[str]) -> str:
    """Return a form's differences in a line: they come by the dozen with another release, and hide what people did."""
    more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
    return f"form: {differences[0].strip()}{more}"


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
