"""What has to be done so that what is there becomes what is wanted. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from deployments.deploying.model import Automation, Change, Deployment, Doing, Pool, ScheduleLine, Setup, Waiting
from flows.replaced import Times, changed, why_outdated

_SHOWN = 80  # characters of a value in a difference


def changes(wanted: Setup, found: Setup, *, prune: bool = True) -> tuple[Change, ...]:
    """Return what has to be done, in an order in which it can be: pools before deployments, what is gone last.

    Flow runs that wait for a worker with what was asked before come first of all: any moment one may take them.

    Args:
        wanted: what should be there.
        found: what is there and belongs to the same fleet.
        prune: whether what is not wanted any more is removed. Work pools never are: others may use them.
    """
    done = [
        *_outdated(wanted, found, prune=prune),
        *_compared("work pool", wanted.pools, found.pools),
        *_compared("deployment", wanted.deployments, found.deployments),
        *_compared("automation", wanted.automations, found.automations),
    ]
    done += [
        Change(Doing.REMOVE, "automation", name, (f"{len(some)} copies of it",)) for name, some in found.copies.items()
    ]
    gone = _left("deployment", wanted.deployments, found.deployments)
    if prune:
        done += _left("automation", wanted.automations, found.automations)
    return (*done, *(change for change in gone if prune or change.name in wanted.former))


def outdated(wanted: Setup, found: Setup, *, prune: bool = True) -> Iterator[tuple[Waiting, str]]:
    """Give the flow runs that wait and should not begin, and why.

    A run that a schedule has made has to be what its schedule would make now. One that a person started is that
    person's business, unless its configuration is switched off now, or it asks in some point what the deployment asked
    until now, and asks no more.

    Args:
        wanted: what should be there.
        found: what is there, with the flow runs that wait.
        prune: whether deployments that are not wanted any more are removed.
    """
    ours, theirs = ({each.full_name: each for each in setup.deployments} for setup in (wanted, found))
    for run in found.waiting:
        aim, there = ours.get(run.deployment), theirs[run.deployment]
        if aim is None:
            why = "its deployment is removed" if prune or run.deployment in wanted.former else ""
        elif run.scheduled:
            times = [Times(each.spoken) for each in aim.schedules if each.active]
            why = why_outdated(run.parameters, run.due, aim.parameters, times, paused=aim.paused)
        else:
            why = _why_not_by_hand(run, aim, there)
        if why:
            yield run, why


def _why_not_by_hand(run: Waiting, aim: Deployment, there: Deployment) -> str:
    if aim.paused:
        return "" if there.paused else "its deployment is switched off"
    taken_over = set(changed(there.parameters, aim.parameters)) - set(changed(run.parameters, there.parameters))
    return f"its deployment asks something else now ({', '.join(sorted(taken_over))})" if taken_over else ""


def _outdated(wanted: Setup, found: Setup, *, prune: bool) -> list[Change]:
    """Return those to cancel, without what Prefect forgets by itself as their deployment is replaced or removed."""
    ours = {each.full_name: each for each in wanted.deployments}
    as_it_is = {each.full_name for each in found.deployments if ours.get(each.full_name) == each}
    return [
        Change(Doing.CANCEL, "flow run", run.title, (why,))
        for run, why in outdated(wanted, found, prune=prune)
        if run.deployment in as_it_is or not (run.scheduled and run.state == "Scheduled")
    ]


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
                for name in ("rule", "zone", "active", "every", "anchor", "parameters", "most")
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
