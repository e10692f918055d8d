"""The scheduled events of a whole run: who is told, what is announced before its window opens, and their end."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from flows.engine.machine_work import UnavailableTransport
from flows.engine.run_info import is_rollout_run
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.machine import MachineSet
from tasks.domain.errors import FleetpatchError, RecordsError, RequestError
from tasks.domain.model import Wave
from tasks.domain.scheduled_events import EventSource, EventStatus
from tasks.rules.runs.approval import is_person
from tasks.rules.runs.set_capacity import index_sets
from tasks.steps.context.machine_context import MachineContext
from tasks.steps.context.run_context import RunContext
from tasks.steps.scheduled_events import announce_expected_reboot

logger = logging.getLogger(__name__)


def build_event_parts(request: PatchRequest | AssessRequest, ports: Ports, started_by: str) -> dict[str, Any]:
    """Return what the context of a run needs to announce its interruptions: who causes them, and who is told.

    A person who applies what a configuration holds causes them, and no schedule.

    Raises:
        RequestError: the request wants interruptions announced, and this process can't do that.
    """
    if not isinstance(request, PatchRequest) or not request.announce.enabled:
        return {}
    if ports.events is None:
        raise RequestError(
            "this process can't announce interruptions: it has no scheduled events",
            hint="Leave `announce` out, or start the run with `fleetpatch patch`, from the pages or by a schedule.",
        )
    sets = index_sets(ports.inventory.sets)

    def list_audience(machine: str) -> tuple[str, ...]:
        members = (name for machine_set in sets.get(machine, ()) for name in machine_set.members)
        return tuple(dict.fromkeys((machine, *members)))

    is_scheduled = is_rollout_run(request) or (bool(request.configuration) and not is_person(started_by))
    source = EventSource.PLATFORM if is_scheduled else EventSource.USER
    return {"events": ports.events, "event_source": source, "list_audience": list_audience}


class RunEvents:
    """The scheduled events of one run."""

    def __init__(
        self, run_context: RunContext, request: PatchRequest | AssessRequest, sets: Sequence[MachineSet]
    ) -> None:
        self._run_context = run_context
        self._announcement = run_context.options.announce if run_context.events is not None else None
        self._at_once = request.waves.at_once if isinstance(request, PatchRequest) else 0
        self._sets = index_sets(sets)

    def find_first_announcement(self) -> datetime | None:
        """Return when the machines are announced that begin as soon as the window opens; None: they are not."""
        if self._announcement is None:
            return None
        return self._run_context.window.start - timedelta(seconds=self._announcement.notice_seconds)

    def announce_first_machines(self, contexts: Sequence[MachineContext], waves: Sequence[Wave]) -> None:
        """Announce the expected reboots of the machines that begin as soon as the window opens.

        The others are announced when their turn begins: until then nobody has to do without them.

        Raises:
            RecordsError: it can't be stored.
        """
        by_name = {context.name: context for context in contexts}
        for name in self._list_first_machines(waves):
            context = by_name.get(name)
            if context is None or context.state.error is not None or context.state.halted:
                continue
            if isinstance(context.transport, UnavailableTransport):  # another run carries it out, and tells it
                continue
            try:
                announce_expected_reboot(context, self._run_context.window.start)
            except RecordsError:
                raise
            except FleetpatchError as error:  # it is told again when its turn begins
                self._run_context.listener.on_message(f"{name} could not be told: {error.message}")

    def close(self) -> None:
        """End the events that the run has left open. Raises nothing: what can't be ended is found later."""
        events, run_id = self._run_context.events, self._run_context.run.id
        if events is None or self._announcement is None or self._run_context.stop_token.is_lease_lost:
            return
        try:
            for event in events.find(run_id):
                if event.status is EventStatus.SCHEDULED:
                    events.change(event.id, EventStatus.CANCELED, "the run is over")
                elif event.is_open:
                    events.change(event.id, EventStatus.COMPLETED, "the run is over, and it has not come back")
        except FleetpatchError as error:
            logger.warning("run %s: its scheduled events were not ended: %s", run_id, error.message)

    def _list_first_machines(self, waves: Sequence[Wave]) -> Iterator[str]:
        """Yield the machines that begin at once: as many as the run works on, and of each set as many as it allows."""
        taken: Counter[str] = Counter()
        places = self._at_once
        for name in waves[0].machines if waves else ():
            own_sets = self._sets.get(name, ())
            if places and all(taken[each.name] < each.allowed_unavailable for each in own_sets):
                taken.update(each.name for each in own_sets)
                places -= 1
                yield name
