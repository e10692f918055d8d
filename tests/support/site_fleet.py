"""A fleet of several sites, whose runs are carried out by the runs of shards in the test's process."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import ResumeState, read_resume_state
from flows.local_run import LocalRunner
from flows.request import AssessRequest, RunRequest
from tasks.domain.errors import RequestError
from tasks.domain.model import RunReport
from tasks.domain.protocols.records import SHARD_ACT, JournalMark
from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.domain.states import OperationState
from tasks.steps.context.run_control import LoggingListener, StopToken
from tests.support.fake_leases import FakeLeases
from tests.support.fake_packages import FakePackage
from tests.support.fake_records import FakeHistory
from tests.support.fleet import SimFleet
from tests.support.shard_runs import LocalShardRuns
from tests.support.sim_machine import SimMachine

RUN = "20260310-010000-aaaaaa"


class Listener(LoggingListener):
    def __init__(self, said: list[str]) -> None:
        self._said = said

    def on_message(self, message: str) -> None:
        self._said.append(message)


class Sites:
    """A fleet of the sites default and hamburg."""

    def __init__(self, **machines: str) -> None:
        self.fleet = SimFleet()
        self.fleet.leases = FakeLeases(self.fleet.records, self.fleet.clock)
        for name, site in machines.items():
            self.fleet.add(name, [FakePackage("a", seconds=60)], site=site)
        self.shards = LocalShardRuns(self.fleet.records, self.fleet.leases, self._build_ports)
        self.size, self.connects, self.opens = 500, False, True
        self.token = StopToken()
        self.said: list[str] = []
        self.fleet.watch = Listener(self.said)

    def at_seconds(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something once that much time has passed, while the whole run waits."""
        clock = self.fleet.clock
        due, look = clock.now() + timedelta(seconds=seconds), self.shards.look

        def look_and_act(*arguments: Any) -> Any:
            nonlocal due
            if clock.now() >= due:
                due = datetime.max.replace(tzinfo=UTC)
                act()
            return look(*arguments)

        self.shards.look = look_and_act  # type: ignore[method-assign, assignment]

    def late_in_waves(self, site: str) -> None:
        """Let the runs of a site begin only to plan."""
        start = self.shards.start

        def start_late(run_id: str, at: str, name: str, request: Any) -> str:
            self.shards.late = set() if request.get("dry_run") else {site}
            return start(run_id, at, name, request)

        self.shards.start = start_late  # type: ignore[method-assign, assignment]

    def _build_ports(self, token: StopToken) -> Any:
        return replace(self.fleet.ports(), stop_token=token, connect=self.connect_at_site)

    def connect_at_site(self, machine: Any) -> Any:
        return self.fleet.machines[machine.name]

    def patch(self, *, resume: bool = False, **request: Any) -> RunReport:
        history: Any = FakeHistory(self.fleet.records)
        state = read_resume_state(history, RUN) if resume else None
        return self._execute(self.fleet.request(**{"waves": {"at_once": 4}, **request}), state)

    def assess(self, **request: Any) -> RunReport:
        return self._execute(AssessRequest(**{"scope": "*", "at_once": 4, **request}), None)

    def _execute(self, request: RunRequest, state: ResumeState | None) -> RunReport:
        ports = replace(
            self.fleet.ports(),
            stop_token=self.token,
            connect=self.connect_at_site if self.connects else self._refuse,
            open_shard_runs=(lambda: self.shards) if self.opens else None,
            shard_size=self.size,
        )
        return FleetRun(request, ports, LocalRunner(), run_id=RUN, resume_state=state).execute()

    def _refuse(self, machine: Any) -> Any:
        raise RequestError(f"the whole run connects to {machine.name}")

    def list_shards(self, mark: JournalMark = JournalMark.BEFORE) -> list[tuple[str, object, object]]:
        return [
            (entry.key, entry.detail.get("wave"), entry.detail.get("site"))
            for entry in self.fleet.records.journal
            if entry.act == SHARD_ACT and entry.mark is mark
        ]


def states(report: RunReport) -> dict[str, OperationState]:
    return {outcome.machine: outcome.state for outcome in report.outcomes}


def answer_as_one(*machines: SimMachine) -> None:
    """Let machines be one and the same."""
    for machine in machines:
        facts = machine._facts

        def answer(_script: Script, facts: Callable[[], Any] = facts) -> list[ScriptRecord]:
            kernel = {"installation": "c0ffee", "first_process": "12", "boot_id": "one-boot"}
            return [{**record, **(kernel if record["kind"] == "kernel" else {})} for record in facts()]

        machine.answer("facts", answer)


def die(why: str) -> None:
    raise KeyboardInterrupt(why)
