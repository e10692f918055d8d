"""One look of maintenance control at all groups: what is held, what ended, and what has to be applied now.

A look that runs twice, or that another one has died before, changes nothing more than one look.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from deployments.maintenance.group_view import build_group_view, build_record, find_inherited, read_group_machines
from deployments.maintenance.groups import HoldGroup, HoldGroups
from deployments.maintenance.run_starter import ApplyStarter, build_apply_request
from flows.automatic.wording import Announcer
from flows.engine.run_lease import LeaseRenewer, build_holder
from flows.notify.messages import Message, sanitize_text
from flows.policy.enforcement import read_policy_freezes
from flows.ports.caller import Caller, find_starter_name
from flows.request.request_parts import NotifyRequest
from inventory.credentials import Credential
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.name_lists import format_count
from tasks.domain.errors import PatchError, RequestError
from tasks.domain.protocols.clock import Clock
from tasks.domain.states import NotificationOccasion
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.maintenance import GroupRecord, SqlMaintenance, StoredApplication
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tasks.rules.automatic.model import Tell
from tasks.rules.calendar.freezes import Freeze
from tasks.rules.maintenance.look import build_problem_news, look_at_group
from tasks.rules.maintenance.model import Application, ApplyCause, GroupState, Look, News
from tasks.rules.runs.approval import MAINTENANCE_STARTER
from tasks.steps.context.run_control import StopToken

TICK_LEASE: Final = "maintenance-control"
"""The lease that a look holds, in the table of run leases: of two looks at the same time, one works."""
_MAX_LINE_LENGTH: Final = 400


@dataclass(frozen=True, slots=True)
class TickWorld:
    """What a look needs from outside."""

    records: SqlRecords
    groups: HoldGroups
    starter: ApplyStarter
    read_credential: Callable[[str], Credential]
    say: Callable[[str], None]
    now: datetime
    still_holds_lease: Callable[[], bool]  # whether no other look has begun meanwhile; asked before each change


def run_tick(
    groups: HoldGroups,
    caller: Caller,
    starter: ApplyStarter,
    clock: Clock,
    read_credential: Callable[[str], Credential],
) -> tuple[str, ...]:
    """Look at all groups, remember what is held for each, and begin what has to be applied now.

    Returns:
        What people should know, in lines.

    Raises:
        LeaseHeld: another look is at work.
        PatchError: Prefect does not answer. The next look does the rest.
        RecordsError: the records are not usable.
    """
    with ExitStack() as stack:
        records = stack.enter_context(open_records(caller.records_url))
        lease = LeaseRenewer(records.leases, TICK_LEASE, StopToken(), build_holder(find_starter_name(caller)))
        still_holds_lease = stack.enter_context(lease).still_holds_lease
        say = caller.listener.on_message
        world = TickWorld(records, groups, starter, read_credential, say, clock.now(), still_holds_lease)
        return _Tick(world).run()


class _Tick:
    """One look at all groups."""

    def __init__(self, world: TickWorld) -> None:
        self._world = world
        self._store = SqlMaintenance(world.records.database, require_seals=True)
        self._lines: list[str] = []

    def run(self) -> tuple[str, ...]:
        self._complete_earlier()
        groups = self._world.groups
        stored = self._store.read_groups()
        for name, record in stored.items():
            is_known = name in groups.by_name or record.configuration in groups.unknown
            if not is_known and record.removed_at is None and not record.fault:
                self._require_lease()
                self._store.remove_group(name, self._world.now)
                self._say(f"{name}: nothing is held any more: no configuration holds updates for it")
        stored = self._store.read_groups()
        for group in groups.by_name.values():
            self._look(group, stored)
        for name, unknown in groups.unknown.items():
            news = build_problem_news(name, unknown.problem, self._world.now)
            self._tell(unknown.configuration.form.notify, [news])
        return tuple(self._lines)

    def _look(self, group: HoldGroup, stored: dict[str, GroupRecord]) -> None:
        world, record = self._world, stored.get(group.name)
        state = record.state if record is not None else GroupState(group.name)
        machines = read_group_machines(world.records.database, group, world.now)
        others = [other for other in stored.values() if other.removed_at is not None and not other.fault]
        inherited = find_inherited(group, machines, others, world.now)
        view = build_group_view(group, machines, self._find_freezes(group), world.now, inherited)
        if record is not None and record.fault:
            view = replace(view, problem=record.fault)
        look = look_at_group(group.policy, state, view, world.now, group.zone)
        if not view.problem:
            self._require_lease()
            self._store.save_look(build_record(group, look.state, machines), look.ended)
        self._tell(group.notify, look.news)
        self._begin(group, look)

    def _find_freezes(self, group: HoldGroup) -> tuple[Freeze, ...]:
        """Return the freezes of a group: its own, those of all configurations, and those of the policy."""
        own = group.configuration.build_freezes(group.zone)
        try:
            return (*own, *read_policy_freezes(group.machines, self._world.now))
        except (InventoryError, RequestError) as error:
            self._say(f"{group.name}: the policy can't be read, so its runs would be refused: {error.message}")
            return own

    def _begin(self, group: HoldGroup, look: Look) -> None:
        if look.start is None:
            return
        self._require_lease()
        now = self._world.now
        number = look.state.number
        application = Application(look.start.key, number, look.start.cause, MAINTENANCE_STARTER, now)
        until = now + timedelta(minutes=group.configuration.window_minutes)
        try:
            is_new = self._store.begin_application(group.name, application, until)
        except RequestError as error:  # somebody else has begun to apply it since the look
            self._say(f"{group.name}: {error.message}")
            return
        if is_new:
            self._say(f"{group.name}: its last day is over: package {number} is applied now")
            self._start(group, application.key, now)

    def _start(self, group: HoldGroup, key: str, opens: datetime) -> None:
        request = build_apply_request(group, opens, application=key)
        try:
            self._store.set_flow_run(key, self._world.starter.start(group.name, key, request))
        except RequestError as error:
            self._store.refuse(key, error.message, self._world.now)
            self._say(f"{group.name}: package not applied: {error.message}")

    def _complete_earlier(self) -> None:
        """Complete what an earlier look has left, and find out which runs never began."""
        for stored in self._store.read_waiting():
            self._require_lease()
            application, now = stored.application, self._world.now
            if end := self._find_end(stored):
                self._store.refuse(application.key, end, now)
                self._say(f"{stored.group}: package {application.number} was not applied: {end}")
            elif application.cause is ApplyCause.OVERDUE and not stored.flow_run_id and not application.run_id:
                group = self._world.groups.by_name.get(stored.group)
                if group is not None:  # the same key starts no second run
                    self._start(group, application.key, application.began_at)

    def _find_end(self, stored: StoredApplication) -> str:
        """Return why a run has not begun and never will; "" if it still may."""
        if self._world.now >= stored.until:
            what = "its run was not recorded" if stored.application.run_id else "no worker started it"
            return f"{what} in its window"
        if not stored.flow_run_id or stored.application.run_id:
            return ""
        return self._world.starter.describe_end(stored.flow_run_id)

    def _tell(self, targets: Sequence[NotifyRequest], news: Sequence[News]) -> None:
        """Tell people what they were not told before. What could not be sent is sent by the next look."""
        announcements = SqlAnnouncements(self._world.records.database)
        known = announcements.read_keys() if news else frozenset()
        fresh = [item for item in news if item.key not in known]
        for occasion, is_bad in ((NotificationOccasion.FAILED, True), (NotificationOccasion.WAITING, False)):
            tells = [Tell(item.key, item.message) for item in fresh if item.is_bad is is_bad]
            build = partial(build_announcement, is_failure=is_bad)
            announcer = Announcer(targets, self._world.read_credential, self._world.say, build)
            if not tells:
                continue
            self._require_lease()
            for tell in tells:
                self._say(tell.message)
            if not announcer.tell(tells, occasion):
                self._say("nobody could be told; the next look tries it again")
                continue
            for tell in tells:
                announcements.add(tell.key, tell.message, self._world.now)

    def _say(self, line: str) -> None:
        self._lines.append(line)
        self._world.say(line)

    def _require_lease(self) -> None:
        if not self._world.still_holds_lease():
            raise PatchError("another look of maintenance control has taken over: it does the rest")


def build_announcement(tells: Sequence[Tell], *, is_failure: bool) -> Message:
    """Return the message about what is held for one group: each look has few things to say of it. Pure."""
    lines = [sanitize_text(tell.message, _MAX_LINE_LENGTH) for tell in tells]
    lines.append("More: fleetpatch maintenance")
    title = f"fleetpatch: maintenance control: {format_count(len(tells), 'thing')} to know"
    return Message(title, "\n".join(lines), is_failure)
