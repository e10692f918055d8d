"""Windows: what the manager asks of the machine, and how it reads the answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.domain.errors import (
    DeadlineExceeded,
    ManagerBusy,
    ManagerError,
    RepositoryError,
    RequestError,
    ScriptFailed,
    UnsupportedSystem,
)
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import JobKind, PackageManager, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptResult
from tasks.domain.states import Classification
from tasks.machines.managers.registry import find_manager
from tasks.machines.managers.windows_update.assessment import parse_windows_assessment
from tasks.machines.managers.windows_update.manager import DEFAULT_RATES, WindowsUpdateManager
from tasks.machines.transport.script_library import compose_script, load_script_parameters, load_windows_script
from tasks.rules.updates.transaction_planning import plan_transactions
from tests.support.builders import make_facts, make_update
from tests.support.fake_clock import FakeClock
from tests.unit.managers.recordings import describe, recorded, wanted
from tests.unit.managers.windows_records import (
    assessment,
    guid,
    history_record,
    policy_record,
    search_record,
    update_record,
)

CLOCK = FakeClock()
DENIED = search_record(result_code=None, hresult=0x80070005, denied=True)
OFFLINE = "no longer offered"


@dataclass
class Replay:
    """A transport that gives one answer to scripts, and another one to a job."""

    answer: ScriptResult
    job_answer: ScriptResult | None = None
    scripts: list[Script] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    phases: list[JobPhase] = field(default_factory=lambda: [JobPhase.RUNNING, JobPhase.FINISHED])
    busy: int = 0
    refused: int = 0

    def run_script(self, script: Script, *, deadline: Deadline) -> ScriptResult:
        self.scripts.append(script)
        return self.answer

    def start_job(self, job: Job, *, deadline: Deadline) -> JobStatus:
        self.jobs.append(job)
        if len(self.jobs) <= self.busy:
            raise ManagerBusy("another job of fleetpatch still runs on the machine")
        if len(self.jobs) <= self.refused:
            raise ScriptFailed("the machine could not start the job: it did not begin within 180 seconds", exit_code=0)
        return JobStatus(job.id, JobPhase.RUNNING)

    def poll_job(
        self, job_id: str, *, deadline: Deadline, events_from: int = 0, log_from: int = 0, wait_seconds: float = 0.0
    ) -> JobStatus:
        assert self.job_answer is not None
        phase = self.phases.pop(0)
        records = self.job_answer.records
        half = len(records) // 2
        events = records[:half] if phase is JobPhase.RUNNING else records[events_from:]
        return JobStatus(job_id, phase, 0, events, events_from + len(events))


def replay(*records: Any, **changes: Any) -> Any:
    return Replay(assessment(*records), **changes)


def manager() -> WindowsUpdateManager:
    return WindowsUpdateManager(clock=CLOCK)


def soon() -> Deadline:
    return Deadline.after(CLOCK, 60)


def chosen(number: int = 1, **changes: Any) -> Update:
    base = make_update(id=guid(number), name=f"KB50{number:05}", arch="", installed=None, available="rev 200")
    return replace(base, **changes)


def installed(*records: Any, updates: Sequence[Update] = ()) -> dict[str, str]:
    updates = updates or [chosen(1), chosen(2)]
    found = manager().read_installed_versions(replay(*records), updates, deadline=soon())
    return dict(found)


def test_it_is_the_manager_of_windows() -> None:
    seam: PackageManager = manager()  # mypy checks the signatures
    assert find_manager(make_facts(managers=("windows-update",))).name == seam.name == "windows-update"
    with pytest.raises(UnsupportedSystem):
        find_manager(make_facts(managers=("chocolatey",)))


@pytest.mark.parametrize("name", ["wua_assess", "wua_simulate", "wua_installed", "wua_job", "updaters"])
def test_every_script_and_what_it_requires_is_there(name: str) -> None:
    script = Script(name, package=manager().script_package)
    text = compose_script(script, load_windows_script, required_loader=load_windows_script)
    assert text.isascii()
    brought = load_script_parameters(script, load_windows_script, required_loader=load_windows_script)
    assert ("undo" in brought) is (name == "updaters")


@pytest.mark.parametrize("name", ["server-2022-november", "server-2025-hotpatch"])
def test_recordings_mean_what_is_wanted(name: str) -> None:
    found = recorded(f"{name}.wua_assess", family="windows_update")
    state = parse_windows_assessment(found)
    assert describe(state) == wanted(f"{name}.wua_assess", family="windows_update")


class TestAssess:
    def test_only_a_refresh_asks_the_server(self) -> None:
        transport = replay(update_record())
        assert len(manager().assess(transport, refresh=True, deadline=soon()).updates) == 1
        manager().assess(transport, refresh=False, deadline=soon())
        assert [script.params for script in transport.scripts] == [{"refresh": "yes"}, {}]

    def test_only_where_a_wsus_may_hide_the_newest_month_the_installed_ones_are_asked_for(self) -> None:
        wsus = policy_record(WUServer="http://wsus:8530", UseWUServer="1")
        transport = replay(wsus, update_record(installed=True, title="2026-11 Cumulative Update for Windows (KB1)"))
        state = manager().assess(transport, refresh=True, deadline=soon())
        assert (state.updates, state.repository_problems, len(transport.scripts)) == ((), (), 1)
        transport = replay(wsus)
        state = manager().assess(transport, refresh=True, deadline=soon())
        assert [script.params for script in transport.scripts] == [{"refresh": "yes"}, {"months": "yes"}]
        assert len(state.repository_problems) == 1

    def test_what_a_login_over_the_network_may_not_a_job_may(self) -> None:
        transport = replay(DENIED, job_answer=assessment(update_record(1), update_record(2)))
        state = manager().assess(transport, refresh=True, deadline=soon())
        assert [update.id for update in state.updates] == [guid(1), guid(2)]
        (job,) = transport.jobs
        assert (job.script.name, job.script.params, job.reads) == ("wua_assess", {"refresh": "yes"}, True)

    def test_a_job_that_has_ended_before_its_start_was_answered_is_read(self) -> None:
        quick = replay(DENIED, job_answer=assessment(update_record(1)), phases=[JobPhase.FINISHED])
        assert len(manager().assess(quick, refresh=True, deadline=soon()).updates) == 1

    def test_a_job_waits_for_its_place_until_the_deadline(self) -> None:
        transport = replay(DENIED, job_answer=assessment(update_record(1)), busy=3)
        assert len(manager().assess(transport, refresh=True, deadline=soon()).updates) == 1
        assert len({job.id for job in transport.jobs}) == 1
        with pytest.raises(ManagerBusy) as caught:
            manager().assess(replay(DENIED, busy=100), refresh=True, deadline=soon())
        assert "wuauserv" in caught.value.hint

    def test_a_job_that_reads_is_repeated_once_if_it_did_not_begin_or_was_lost(self) -> None:
        answer, ended = assessment(update_record(1)), [JobPhase.LOST, JobPhase.FINISHED]
        for transport in (
            replay(DENIED, job_answer=answer, refused=1),
            replay(DENIED, job_answer=answer, phases=ended),
        ):
            assert len(manager().assess(transport, refresh=True, deadline=soon()).updates) == 1
            assert len({job.id for job in transport.jobs}) == 2
        with pytest.raises(ScriptFailed, match="did not begin"):
            manager().assess(replay(DENIED, refused=2), refresh=True, deadline=soon())

    def test_a_job_that_is_lost_or_late_is_an_error(self) -> None:
        lost = replay(DENIED, job_answer=assessment(), phases=[JobPhase.LOST, JobPhase.LOST])
        with pytest.raises(ManagerError, match="lost"):
            manager().assess(lost, refresh=True, deadline=soon())
        late = replay(DENIED, job_answer=assessment(), phases=[JobPhase.RUNNING] * 100)
        with pytest.raises(DeadlineExceeded):
            manager().assess(late, refresh=True, deadline=soon())

    def test_an_access_denied_to_the_job_too_is_told(self) -> None:
        with pytest.raises(ManagerError, match="E_ACCESSDENIED"):
            manager().assess(replay(DENIED, job_answer=assessment(DENIED)), refresh=True, deadline=soon())

    def test_whatever_is_denied_a_job_is_asked_for(self) -> None:
        error = {"kind": "error", "message": "no", "hresult": 0x80070005, "place": "at Get-FpNewest, <No file>: line 9"}
        denied = ScriptResult((error,), 1)
        transport: Any = Replay(denied, job_answer=assessment(update_record(1)))
        assert len(manager().assess(transport, refresh=True, deadline=soon()).updates) == 1
        transport = Replay(denied, job_answer=denied)
        with pytest.raises(
            ManagerError, match=r"refuses a call at Get-FpNewest \(0x80070005 E_ACCESSDENIED.* SYSTEM too"
        ):
            manager().assess(transport, refresh=True, deadline=soon())

    def test_a_history_that_can_not_be_read_is_a_warning(self) -> None:
        failed = {
            "kind": "history_error",
            "hresult": 0x80248007,
            "message": "",
            "entry": "QueryHistory",
            "denied": False,
        }
        (warning,) = manager().assess(replay(update_record(1), failed), refresh=True, deadline=soon()).warnings
        assert "history of Windows Update can't be read (QueryHistory: 0x80248007" in warning

    def test_an_error_of_the_script_has_the_name_of_its_code(self) -> None:
        error = {"kind": "error", "message": "no class", "hresult": 0x80040154}
        with pytest.raises(ScriptFailed, match=r"no class.*REGDB_E_CLASSNOTREG"):
            manager().assess(Replay(ScriptResult((error,), 1)), refresh=True, deadline=soon())  # type: ignore[arg-type]


class TestSimulate:
    def simulate(self, *records: Any, wanted: Sequence[Update]) -> Any:
        return manager().simulate(replay(*records), wanted, deadline=soon())

    def test_it_tells_what_is_still_to_be_downloaded(self) -> None:
        found = self.simulate(update_record(1, downloaded=True), update_record(2), wanted=[chosen(1), chosen(2)])
        assert found.changes == {guid(1): "rev 200", guid(2): "rev 200"}
        assert (found.refused, found.removals) == ({}, ())
        assert found.download_bytes == 1_000_000

    @pytest.mark.parametrize("size", [None, 22 * 2**30])
    def test_an_unknown_size_is_not_zero(self, size: int | None) -> None:
        found = self.simulate(update_record(1, max_bytes=size), wanted=[chosen(1)])
        assert found.download_bytes is None

    @pytest.mark.parametrize(
        ("record", "word"),
        [
            (update_record(2), OFFLINE),
            (update_record(1, revision=201), "rev 201 is offered now, not rev 200"),
            (update_record(1, reboot_required=True), OFFLINE),
            (update_record(1, eula_accepted=False), "licence"),
        ],
    )
    def test_what_changed_since_the_assessment_is_refused(self, record: dict[str, Any], word: str) -> None:
        found = self.simulate(record, wanted=[chosen(1)])
        assert found.changes == {}
        assert word in found.refused[guid(1)]

    def test_licence_terms_may_be_accepted(self) -> None:
        record = update_record(1, eula_accepted=False)
        wanted = [replace(chosen(1), needs_licence=True)]  # which only a request that accepts them chooses
        assert self.simulate(record, wanted=wanted).refused == {}

    def test_nothing_is_not_asked_for(self) -> None:
        transport = replay()
        assert manager().simulate(transport, [], deadline=soon()).download_bytes == 0
        assert transport.scripts == []


class TestInstalled:
    def test_what_the_agent_lists_as_installed_is(self) -> None:
        assert installed(update_record(1, installed=True), update_record(2)) == {guid(1): "rev 200"}

    def test_what_waits_for_a_reboot_counts(self) -> None:
        assert installed(update_record(1, reboot_required=True)) == {guid(1): "rev 200"}

    def test_what_is_offered_is_not_installed_whatever_the_history_says(self) -> None:
        assert installed(update_record(1), history_record(1)) == {}

    def test_what_a_newer_one_has_superseded_since_is_known_by_the_history(self) -> None:
        assert installed(history_record(1), history_record(2, result_code=4)) == {guid(1): "rev 200"}

    def test_the_last_entry_counts(self) -> None:
        later = history_record(1)["at"] + 60
        assert installed(history_record(1), history_record(1, at=later, operation=2)) == {}
        assert installed(history_record(1, result_code=4), history_record(1, at=later)) == {guid(1): "rev 200"}

    def test_others_are_not_told(self) -> None:
        assert installed(update_record(3, installed=True), history_record(4)) == {}
        assert installed(updates=[make_update(id="curl:amd64")]) == {}

    def test_a_failed_search_is_not_taken_for_nothing_installed(self) -> None:
        with pytest.raises(RepositoryError):
            installed(search_record(result_code=None, hresult=0x80248007))


class TestJob:
    def build(self, kind: JobKind, *updates: Update) -> Script:
        return manager().build_job_script(kind, [Transaction(3, updates, 1_000.7, 10.0, 900.2)])

    def test_it_gets_ids_revisions_times_and_the_meaning_of_codes(self) -> None:
        script = self.build(JobKind.INSTALL, chosen(1, title="2025-11 Security Update (KB5000001) (26200.7171)"))
        assert (script.name, script.read_only) == ("wua_job", False)
        params = dict(script.params)
        assert len(params.pop("codes")) > 100
        assert params == {
            "work": "install",
            "numbers": ("3",),
            "accept_licences": "",
            "cumulative": (guid(1),),
            "tx_3_latest_start": "1000",
            "tx_3_stop_at": "900",
            "tx_3_updates": (f"{guid(1)}|200|KB5000001",),
        }

    @pytest.mark.parametrize("update", [chosen(available="2.0"), chosen(id="curl"), chosen(available="rev 1|x")])
    def test_what_is_no_update_of_windows_is_refused(self, update: Update) -> None:
        with pytest.raises(RequestError):
            self.build(JobKind.INSTALL, update)

    def test_each_update_is_a_transaction_of_its_own_in_the_order_of_the_assessment(self) -> None:
        lcu = update_record(1, title="2026-11 Cumulative Update for Windows Server 2022 (KB5000001)", reboot_behavior=2)
        stack = update_record(3, title="Servicing Stack Update (KB5000003)")
        updates = manager().assess(replay(lcu, update_record(2), stack), refresh=False, deadline=soon()).updates
        now = datetime(2026, 11, 22, tzinfo=UTC)
        end = now + timedelta(hours=8)
        planned, late = plan_transactions(updates, rates=DEFAULT_RATES, now=now, cut_off=end, skew_seconds=0)
        names = [[update.name for update in each.updates] for each in planned]
        assert names == [["KB5000003"], ["KB5000002"], ["KB5000001"]]
        assert late == ()
        assert {update.classification for update in updates} == {Classification.SECURITY}
