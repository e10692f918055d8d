"""Carries out what was decided. A process that dies in between, and runs again, does exactly the rest.

Each step is stored before the next one, and each may be repeated: people are told and updates are held before the
state of a rollout changes, because a later decision would not see any more why. A run is recorded before it is started
in Prefect, under the same key; only then its flow run is recorded.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from datetime import datetime, timedelta

from flows.automatic.fleet_view import select_managed_machines
from flows.automatic.run_starter import (
    ASSESS_DEPLOYMENT,
    ASSESSMENT_WAIT,
    PATCH_DEPLOYMENT,
    RunStarter,
    build_assess_request,
    build_patch_request,
)
from flows.automatic.wording import Announcer, describe_run_plan
from flows.engine.pinned_updates import find_machines_opted_out
from flows.prefect_api.tags import build_site_name
from flows.request.automatic_request import AutomaticRequest
from flows.request.base import FormModel
from inventory.data_class import dataclass
from inventory.machine import DEFAULT_SITE, Inventory
from inventory.name_lists import join_first_names
from tasks.domain.errors import PatchError, RequestError
from tasks.records.automatic.announcements import SqlAnnouncements
from tasks.records.automatic.automatic_runs import AutomaticRun, SqlAutomaticRuns
from tasks.records.automatic.held_updates import SqlHeldUpdates
from tasks.records.automatic.opt_outs import SqlOptOuts
from tasks.records.automatic.rollouts import SqlRollouts
from tasks.records.storage.database import Database
from tasks.rules.automatic.model import (
    AssessMachines,
    AutomaticDecision,
    ChangeRollout,
    CreateRollout,
    HoldUpdate,
    RolloutState,
    StartRun,
    Tell,
)

_NO_WORKER = "no worker started it in"

LOOK_BACK = timedelta(days=3)
"""How far back a tick looks for runs that were decided and never began."""


@dataclass(frozen=True, slots=True)
class TickWorld:
    """What a tick needs from outside."""

    database: Database
    inventory: Inventory
    request: AutomaticRequest
    starter: RunStarter
    announcer: Announcer
    print_message: Callable[[str], None]
    now: datetime
    # Whether no other tick has begun meanwhile; asked before each action.
    still_holds_lease: Callable[[], bool] = field(default=lambda: True)


class ActionRunner:
    """Carries out decisions. An earlier tick may have been interrupted: this completes its work too."""

    def __init__(self, world: TickWorld) -> None:
        self._world = world
        self._runs = SqlAutomaticRuns(world.database)
        self._refusals: list[RequestError] = []

    def complete_earlier(self) -> None:
        """Complete what an earlier tick has left, and find out which runs never began.

        Raises:
            PatchError: Prefect does not answer.
            RecordsError: the records can't be read or written.
        """
        now = self._world.now
        for automatic_run in self._runs.read_since(now - LOOK_BACK):
            run = automatic_run.run
            # Nothing else ends an assessment whose process was killed.
            may_need_help = automatic_run.state is None or (run.plan is None and automatic_run.is_open(now))
            if run.never_began or not may_need_help:
                continue
            self._require_lease()
            if now >= run.window_end:
                span = "its window" if run.plan is not None else f"{ASSESSMENT_WAIT.total_seconds() / 3600:g} hours"
                self._runs.set_never_began(run.key, f"{_NO_WORKER} {span}")
            elif not run.flow_run_id:
                reason = "" if self._world.starter.find(run.key) else self._find_obstacle(run)
                if reason:
                    self._runs.set_never_began(run.key, reason)
                else:
                    self._start(run)
            elif end := self._world.starter.describe_end(run.flow_run_id):
                self._world.print_message(
                    f"{run.key} {'has not begun' if automatic_run.state is None else 'was not ended'}: {end}"
                )
                self._runs.set_never_began(run.key, end)
        self._tell_of_runs_that_never_began()

    def carry_out(self, decision: AutomaticDecision) -> None:
        """Carry a decision out. A repeated call changes nothing.

        A run that Prefect refuses does not keep the others from it; the error comes at the end.

        Raises:
            PatchError: Prefect does not answer. What is left is done by the next tick.
            RecordsError: the records can't be read or written.
            RequestError: Prefect has refused a run of this decision, or one that an earlier tick has left.
        """
        actions = decision.actions
        self._tell([action for action in actions if isinstance(action, Tell)])
        for action in actions:
            if isinstance(action, HoldUpdate):
                self._require_lease()
                SqlHeldUpdates(self._world.database).add(action.update)
        for action in actions:
            if isinstance(action, CreateRollout | ChangeRollout):
                self._require_lease()
                SqlRollouts(self._world.database).save(action.rollout)
        plans = [action.plan for action in actions if isinstance(action, StartRun)]
        for plan in plans:
            window_end = plan.window_start + timedelta(minutes=plan.window_minutes)
            run = AutomaticRun(plan.key, plan.machines, plan.window_start, window_end, self._world.now, plan)
            reason = self._find_obstacle(run)
            if reason:
                self._world.print_message(f"not started: {describe_run_plan(plan)}: {reason}")
            else:
                self._add_and_start(run)
        for action in actions:
            if isinstance(action, AssessMachines):
                self._start_assessments(action)
        if self._refusals:
            raise self._refusals[0]

    def _start_assessments(self, action: AssessMachines) -> None:
        now = self._world.now
        for site, machines in self._group_by_site(action.machines).items():
            key = build_site_name(action.key, site)
            self._add_and_start(AutomaticRun(key, machines, now, now + ASSESSMENT_WAIT, now))

    def _tell(self, tells: Sequence[Tell]) -> None:
        if not tells:
            return
        self._require_lease()
        if not self._world.announcer.tell(tells):
            self._world.print_message("nobody could be told; the next tick tries it again")
            return
        announcements = SqlAnnouncements(self._world.database)
        for tell in tells:
            announcements.add(tell.key, tell.message, self._world.now)

    def _add_and_start(self, run: AutomaticRun) -> None:
        self._require_lease()
        if self._runs.add(run):  # otherwise this decision was carried out before
            self._start(run)

    def _group_by_site(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return machines by their site. One that left the inventory meanwhile is left out by its run."""
        by_site: dict[str, list[str]] = {}
        for machine in self._world.inventory.machines:
            if machine.name in names:
                by_site.setdefault(machine.site, []).append(machine.name)
        return {site: tuple(site_names) for site, site_names in by_site.items()}

    def _start(self, run: AutomaticRun) -> None:
        request, starter = self._world.request, self._world.starter
        sites = self._group_by_site(run.machines)
        site = next(iter(sites)) if len(sites) == 1 else DEFAULT_SITE
        body: FormModel
        if run.plan is None:
            deployment, name = ASSESS_DEPLOYMENT, _describe_run(run)
            body = build_assess_request(request, run.machines)
        else:
            plan = run.plan
            location_text = " ".join(part for part in (plan.location, plan.availability_zone) if part)
            deployment, name = PATCH_DEPLOYMENT, f"{plan.rollout_id} phase {plan.phase} {location_text}".strip()
            body = build_patch_request(request, plan)
        try:
            self._runs.set_flow_run(run.key, starter.start(build_site_name(deployment, site), run.key, name, body))
        except RequestError as error:
            self._refusals.append(error)  # the others may start; the next tick tries this one again

    def _find_obstacle(self, run: AutomaticRun) -> str:
        """Return why a run may not start although it was decided; "" if it may. People may have acted meanwhile."""
        if run.plan is None:
            return ""
        rollout = SqlRollouts(self._world.database).find(run.plan.rollout_id)
        if rollout is None or rollout.state in {RolloutState.CANCELLED, RolloutState.FAULTED}:
            return f"{run.plan.rollout_id} is {rollout.state if rollout is not None else 'unknown'}"
        world = self._world
        machines = select_managed_machines(world.request.scope, world.inventory)
        opt_outs = SqlOptOuts(world.database).read_active(world.now)
        paused = sorted(find_machines_opted_out(machines, opt_outs).keys() & set(run.machines))
        return f"paused meanwhile: {', '.join(paused)}" if paused else ""

    def _tell_of_runs_that_never_began(self) -> None:
        """Tell people in one message: without a worker nothing is patched at all. What is not sent is sent later."""
        runs = [run.run for run in self._runs.read_since(self._world.now - LOOK_BACK) if run.state is None]
        # What was not started because people paused it or cancelled its rollout is no news.
        lost = [run for run in runs if run.never_began and (run.flow_run_id or _NO_WORKER in run.never_began)]
        announced_keys = SqlAnnouncements(self._world.database).read_keys() if lost else frozenset()
        tells = [
            Tell(f"never-began/{run.key}", f"a run never began, because {run.never_began}: {_describe_run(run)}")
            for run in lost
        ]
        self._tell([tell for tell in tells if tell.key not in announced_keys])

    def _require_lease(self) -> None:
        if not self._world.still_holds_lease():
            raise PatchError("another tick of automatic patching has taken over: it does the rest")


def _describe_run(run: AutomaticRun) -> str:
    return describe_run_plan(run.plan) if run.plan is not None else f"assess {join_first_names(list(run.machines), 3)}"
