"""What should be in Prefect: a deployment for each window of each configuration, and what every fleet has."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from deployments.config.configuration import Configuration, Configurations, Opening
from deployments.config.names import stage_slug_of
from deployments.deploying.automations import automations
from deployments.deploying.model import Deployment, Pool, ScheduleLine, Setup
from deployments.deploying.standing import deployment, every, former_names, standing
from flows.patch import patch_fleet
from flows.request import PatchRequest
from flows.tags import configuration_tag
from flows.upkeep import stage_fleet
from inventory.machine import Inventory
from tasks.errors import RequestError
from tasks.rules.calendar.freezes import frozen
from tasks.rules.calendar.schedule import occurrences
from tasks.rules.calendar.spoken import HORIZON, SpokenKind, agrees, spoken
from tasks.rules.calendar.words import described
from tasks.rules.window import say_duration

AHEAD = timedelta(days=90)
"""How far a list of dates has to reach: Prefect's scheduler looks no further than 100 days ahead."""
BEFORE = timedelta(days=7)
"""How far what Prefect is told reaches back: a run that waits for a worker is known by its date."""
FAR = timedelta(days=730)
"""How far a rule is compared with what is meant by it."""
AT_ONCE = 1
"""Runs of one configuration at a time. A second one is cancelled and not queued: it would begin outside its window."""


def wanted(
    configurations: Configurations,
    inventories: Mapping[str, Inventory],
    now: datetime,
    *,
    places: Mapping[str, Path],
    fleet: str,
    pool: str,
    inventory: Path | None,
    told: Mapping[tuple[str, str], ScheduleLine],
) -> Setup:
    """Return what should be there.

    Args:
        configurations: all of them, the disabled ones too: those stand there paused.
        inventories: by a configuration's name: its machines, where each machine's own zone counts.
        now: the present moment.
        places: by a configuration's name: where its inventory is. A run starts in a folder of its own, where none is
            found, so each is told.
        fleet: names the set of configurations.
        pool: the work pool that carries everything.
        inventory: of the machines that are assessed on a schedule.
        told: what Prefect was told before, by full name of the deployment and schedule slug. What still says what is
            meant stays as it is.

    Raises:
        RequestError: two of them would have the same name.
    """
    windows = [
        made
        for configuration in configurations.every
        for opening in configuration.openings(inventories[configuration.name])
        for made in _of(configuration, _at(opening, places[configuration.name]), now, fleet, pool, told)
    ]
    always = standing(fleet, pool, inventory, configurations.source.absolute())
    made = (*always, *windows)
    _all_different(made)
    return Setup(made, automations(fleet), (Pool(pool),), former=former_names(always, fleet))


def _all_different(made: Sequence[Deployment]) -> None:
    twice = [name for name, times in Counter(each.full_name for each in made).items() if times > 1]
    if twice:
        name = twice[0].partition("/")[2]
        raise RequestError(
            f"two deployments would be named {twice[0]}: Prefect would keep the one that comes last",
            hint=f"Give the configuration {name.partition('@')[0]!r} another name.",
        )


def _at(opening: Opening, place: Path) -> Opening:
    return replace(opening, request=opening.request.model_copy(update={"inventory": place}))


def _of(
    configuration: Configuration,
    opening: Opening,
    now: datetime,
    fleet: str,
    pool: str,
    told: Mapping[tuple[str, str], ScheduleLine],
) -> Iterator[Deployment]:
    """Return the deployments of one opening: its run, and the download ahead of it where that is wanted."""
    windows = f"{described(opening.schedule)}, for {configuration.scope}."
    ahead = configuration.stage_ahead_minutes
    kinds = [(patch_fleet, opening.slug, configuration.lead_minutes, windows, opening.request)]
    if ahead is not None:
        words = f"Downloads {say_duration(ahead * 60)} ahead of its windows: {windows}"
        kinds.append((stage_fleet, stage_slug_of(opening.slug), ahead, words, _ended_by(opening.request, ahead)))
    for flow, slug, minutes, words, request in kinds:
        stands = told.get((f"{flow.name}/{opening.slug}", slug))
        said = line(configuration, opening, now, stands, slug=slug, lead=timedelta(minutes=minutes))
        yield deployment(
            flow,
            opening.slug,
            fleet,
            pool,
            description="\n\n".join(word for word in (configuration.description, words) if word),
            parameters={"request": request.model_dump(mode="json", exclude_defaults=True)},
            schedules=[said] if said is not None else [],
            tags=[configuration_tag(configuration.name), *configuration.tags],
            at_once=AT_ONCE,
            paused=not configuration.enabled,
        )


def _ended_by(request: PatchRequest, ahead: float) -> PatchRequest:
    """Return a download's request with no more time than there is until the window opens: then it has no machine."""
    minutes = min(request.window.minutes, ahead)
    return request.model_copy(update={"window": request.window.model_copy(update={"minutes": minutes})})


def line(
    configuration: Configuration,
    opening: Opening,
    now: datetime,
    told: ScheduleLine | None,
    *,
    slug: str,
    lead: timedelta,
) -> ScheduleLine | None:
    """Return an opening's windows as Prefect can be told of them, so that its runs start ``lead`` before they open.

    None: no window opens any more.
    """
    freezes = configuration.frozen_times(opening.zone)
    if told is not None:
        far = now + (AHEAD if told.dates else FAR)
        if agrees(told.spoken, opening.schedule, now, far, lead, freezes):
            return replace(told, active=configuration.enabled, parameters={}, most=None)
    far = now + lead + HORIZON
    if all(frozen(window, freezes) is not None for window in occurrences(opening.schedule, now + lead, until=far)):
        return None
    first = next(occurrences(opening.schedule, now + lead - BEFORE, until=far)).start - lead
    said = spoken(opening.schedule, min(now, first), lead, freezes)
    if said.kind is SpokenKind.INTERVAL and said.every is not None and said.anchor is not None:
        return every(slug, said.every.total_seconds(), said.anchor, active=configuration.enabled)
    return ScheduleLine(slug, said.text, said.zone, configuration.enabled, until=said.until)
