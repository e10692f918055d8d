"""Looks at the whole rollout of a component between its batches: what was good may be bad, or withdrawn, by now."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from flows.engine.health_counter import HealthCounter
from flows.engine.machine_queue import MachineQueue, QueuedMachine
from flows.engine.machine_work import connect_or_defer_error
from flows.engine.resume_state import ResumeState
from flows.ports.ports import Ports
from inventory.machine import Machine
from inventory.name_lists import join_first_names
from tasks.domain.components import Component, build_way_back_command
from tasks.domain.errors import RecordsError
from tasks.domain.model import Finding, Outcome, Update
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import FindingLevel, OperationState, Step
from tasks.rules.calendar.local_time import format_duration
from tasks.rules.components.health import HealthAnswer
from tasks.rules.components.kept_versions import VERSIONS_ACT, add_kept_versions, build_versions_detail
from tasks.rules.components.tries import COMPONENT_CHECK, find_try
from tasks.steps.component_upgrade import POLL_SECONDS, ask_health
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions, RunContext


def keep_versions(options: PatchOptions, ports: Ports, resume_state: ResumeState | None) -> tuple[PatchOptions, Ports]:
    """Return options and ports with the versions of a component that the run's own journal has.

    So the way back of a run that is resumed does not depend on what became of the file.
    """
    if (order := options.component_order) is None:
        return options, ports
    entries = resume_state.journal.get("", ()) if resume_state is not None else ()
    component, list_components = add_kept_versions(order.component, entries), ports.list_components

    def list_kept(machine: Machine) -> tuple[Component, ...]:
        return tuple(component if one.name == component.name else one for one in list_components(machine))

    kept = replace(options, component_order=replace(order, component=component))
    return kept, replace(ports, list_components=list_kept)


class RolloutWatch:
    """Asks all machines that a run has upgraded again, and reads the file of the component again.

    Args:
        planned: the versions that machines of the run are to get.
        say: adds a note to the report.
    """

    def __init__(
        self,
        ports: Ports,
        run_context: RunContext,
        counter: HealthCounter,
        planned: set[str],
        say: Callable[[str], None],
    ) -> None:
        order = run_context.options.component_order
        assert order is not None  # noqa: S101 - for the type checker: only rollouts of components are watched
        self._ports, self._run_context, self._counter, self._say = ports, run_context, counter, say
        self._component, self._planned = order.component, planned

    def record_versions(self) -> None:
        """Write the versions of the component into the journal of the run, before any machine is changed."""
        now, detail = self._ports.clock.now(), build_versions_detail(self._component)
        place = (self._run_context.run.id, "", Step.ASSESS, JournalMark.AFTER, VERSIONS_ACT, self._component.name)
        try:
            self._run_context.records.append_entry(JournalEntry(*place, now, detail))
        except RecordsError as error:
            self._ports.stop_token.request_stop(f"the records failed: {error.message}")

    def look(self, outcomes: Sequence[Outcome], at_once: int) -> list[Outcome]:
        """Return the outcomes with those that are true no longer replaced. Too many of them, or a withdrawal, end it.

        An upgraded machine that is no longer healthy has failed. It keeps the version: what all machines lack at the
        same time may have another cause, so a person takes it back.
        """
        if self._ports.stop_token.is_stopping or self._counter.stop_reason:
            return list(outcomes)
        upgraded = {outcome.machine: update for outcome in outcomes if (update := _find_upgrade(outcome)) is not None}
        self._look_at_file(upgraded)
        problems = self._ask([outcome for outcome in outcomes if outcome.machine in upgraded], upgraded, at_once)
        looked = [self._revise(outcome, problems.get(outcome.machine, "")) for outcome in outcomes]
        self._counter.judge_canary_wave()
        return looked

    def _look_at_file(self, upgraded: dict[str, Update]) -> None:
        label = self._component.label
        for version in sorted(self._planned):
            reason = self._ports.find_withdrawal(self._component.name, version)
            if not reason:
                continue
            self._counter.end(f"{label} {version} {reason}")
            having = {name: update for name, update in upgraded.items() if update.available == version}
            if having:
                first = next(iter(having.values()))
                acts = {build_way_back_command(self._component.name, name, first.installed) for name in having}
                told = f"{join_first_names(list(having), 10)} have {label} {version}, which {reason}"
                self._say(f"{told}. To take it back: {'; '.join(sorted(acts)[:10])}")

    def _ask(self, outcomes: Sequence[Outcome], upgraded: dict[str, Update], at_once: int) -> dict[str, str]:
        contexts, inventory = [], {machine.name: machine for machine in self._ports.inventory.machines}
        for outcome in outcomes:
            if (machine := inventory.get(outcome.machine)) is not None:
                transport = connect_or_defer_error(self._ports.connect, machine)
                state = MachineState(machine, outcome.wave, baseline=outcome.facts)
                contexts.append(MachineContext(self._run_context, transport, state))
        patience = timedelta(seconds=self._component.health_seconds)
        lost_at = self._ports.clock.now() + patience
        answers: dict[str, HealthAnswer] = {}

        def ask(queued: QueuedMachine) -> tuple[str, str] | None:
            """Ask a machine. One bad answer is asked for a second time, and one that is missing, for some minutes."""
            context, before = queued.context, answers.get(queued.context.name)
            answer = answers[context.name] = ask_health(context, upgraded[context.name])
            is_bad = answer.is_healthy is False and before is not None and before.is_healthy is False
            if answer.is_healthy or is_bad or answer.at >= lost_at or context.stop_token.is_stopping:
                context.transport.close()
                return context.name, "" if answer.is_healthy else answer.problem or "no reason was given"
            queued.ask_at = answer.at + timedelta(seconds=POLL_SECONDS)
            return None

        return dict(MachineQueue(contexts, self._ports, ask).run(at_once))

    def _revise(self, outcome: Outcome, problem: str) -> Outcome:
        update = _find_upgrade(outcome) if problem else None
        if update is None:
            return outcome
        now, ended = self._ports.clock.now(), outcome.ended_at
        after = f" {format_duration((now - ended).total_seconds())} after its upgrade" if ended is not None else ""
        message = f"{self._component.label} {update.available}: no longer healthy{after}: {problem}; it was left"
        command = build_way_back_command(self._component.name, outcome.machine, update.installed)
        finding = Finding(COMPONENT_CHECK, FindingLevel.BLOCK, message, f"Look at it, or take it back: {command}")
        revised = replace(
            outcome,
            state=OperationState.FAILED,
            reason=f"validation {finding}",
            findings=(*outcome.findings, finding),
        )
        self._run_context.records.save(revised)
        self._counter.add_outcome(revised)
        return revised


def _find_upgrade(outcome: Outcome) -> Update | None:
    """Return the upgrade of a machine that has succeeded so far."""
    attempt = find_try(outcome)
    if attempt is None or not attempt.succeeded:
        return None
    return next((result.update for result in outcome.updates if result.update.name == attempt.component), None)
