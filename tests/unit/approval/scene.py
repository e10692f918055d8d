"""A simulated fleet whose runs have to be approved, real records in a file, and people who act at set times."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from flows.approval.answers import ApprovalPresenter
from flows.approval.decisions import approve_run, reject_run
from flows.engine.fleet_run import FleetRun
from flows.engine.resume_state import read_resume_state
from flows.local_run import LocalRunner
from flows.ports.ports import Ports
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import ApprovalRequest
from tasks.domain.errors import RecordsUnavailable
from tasks.domain.model import RunReport
from tasks.domain.rows.audit import AuditEntry
from tasks.domain.states import Classification, NotificationOccasion
from tasks.records.approvals import Approval, ApprovalDecision, SqlApprovals
from tasks.records.queries.history import History
from tasks.records.sql_records import SqlRecords
from tasks.steps.context.run_control import StopToken
from tests.support.approval_gate import add_approval_gate
from tests.support.fake_clock import FakeClock
from tests.support.fake_packages import FakePackage
from tests.support.fleet import SimFleet

RUN = "20260310-010000-aaaaaa"
STARTER = "bob"


class Killed(BaseException):
    """The process is gone."""


def kill() -> None:
    """End the process that asks for the time."""
    raise Killed


class Diary(FakeClock):
    """A clock on which people do something at its moment."""

    def __init__(self) -> None:
        super().__init__()
        self._due: list[tuple[datetime, Callable[[], object]]] = []

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """So many seconds from now, do this."""
        self._due.append((self.now() + timedelta(seconds=seconds), act))

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for each in sorted((e for e in self._due if e[0] <= self.now()), key=lambda e: e[0]):
            self._due.remove(each)
            each[1]()


class Failing(SqlApprovals):
    """Approvals that can't be reached between two moments."""

    def between(self, scene: "Scene", first: float, last: float) -> "Failing":
        begin = scene.clock.now()
        self.away: Callable[[], bool] = lambda: (
            timedelta(seconds=first) <= scene.clock.now() - begin < timedelta(seconds=last)
        )
        return self

    def _there(self) -> None:
        if self.away():
            raise RecordsUnavailable("can't be reached: told to be away", hint="A test asked for this.")

    def request_approval(self, run_id: str, digest: str, seconds: float) -> Approval:
        self._there()
        return super().request_approval(run_id, digest, seconds)

    def decide(
        self, run_id: str, digest: str, decision: ApprovalDecision, who: str, remark: str = ""
    ) -> Approval | None:
        self._there()
        return super().decide(run_id, digest, decision, who, remark)

    def find_approval(self, run_id: str) -> Approval | None:
        self._there()
        return super().find_approval(run_id)


@dataclass
class Scene:
    records: SqlRecords
    url: str
    clock: Diary = field(default_factory=Diary)
    told: list[tuple[NotificationOccasion, RunReport]] = field(default_factory=list)
    host: ApprovalPresenter | None = None
    acts: list[AuditEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = SimFleet(clock=self.clock)

    @property
    def approvals(self) -> SqlApprovals:
        return SqlApprovals(self.records.database, self.clock)

    @property
    def history(self) -> History:
        return History(self.records)

    def add(self, name: str, *packages: str, **described: Any) -> None:
        made = [FakePackage(each, classification=Classification.SECURITY) for each in packages]
        self.fleet.add(name, made, **described)

    def request(self, *, minutes: float = 240, start: datetime | None = None, **approval: Any) -> PatchRequest:
        asked = ApprovalRequest(**{"required": True, **approval})
        return self.fleet.request(minutes=minutes, start=start, approval=asked)

    def ports(self, request: PatchRequest, approvals: SqlApprovals | None = None) -> Ports:
        ports = replace(
            self.fleet.ports(),
            records=self.records,
            notify=lambda *both: self.told.append(both),
            append_audit=self.acts.append,
        )
        return add_approval_gate(ports, approvals or self.approvals)

    def run(
        self, request: PatchRequest, approvals: SqlApprovals | None = None, *, started_by: str = STARTER
    ) -> RunReport:
        ports = self.ports(request, approvals)
        return FleetRun(request, ports, LocalRunner(), run_id=RUN, started_by=started_by).execute()

    def resume(self, request: PatchRequest) -> RunReport:
        """Go on with the run in another process."""
        self.fleet.control = StopToken()
        past = read_resume_state(self.history, RUN)
        return FleetRun(request, self.ports(request), LocalRunner(), run_id=RUN, resume_state=past).execute()

    def approve(self, who: str = "anna", remark: str = "", **how: Any) -> Approval:
        return approve_run(RUN, who, remark, records_url=self.url, clock=self.clock, **how)

    def reject(self, who: str = "anna", remark: str = "") -> Approval:
        return reject_run(RUN, who, remark, records_url=self.url, clock=self.clock)

    def standing(self) -> Approval:
        found = self.approvals.find_approval(RUN)
        assert found is not None
        return found

    def answer(self) -> ApprovalDecision:
        return self.standing().decision

    def touched(self) -> list[str]:
        """Machines on which anything was installed."""
        return [name for name, machine in self.fleet.machines.items() if machine.installs()]
