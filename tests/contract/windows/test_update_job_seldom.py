"""What seldom happens to a job that installs updates: its server fails it, a run ends it, one of several is refused."""

import time
from dataclasses import replace

import pytest

from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.transport import Script
from tests.contract.windows.update_machine import UpdateMachine, guid, of_kind, offer, one, soon
from tests.lab.windows.scenario import three_failures
from tests.lab.windows.state import change_state

NO_NAME = 0x80240438  # the server can't be reached
HTTP = 0x80244FFE  # no line of its own in the table, but one for its family
UNKNOWN_SERVICING = 0x800F0ABC
STALLED = 0x80D02002  # Delivery Optimization's download did not go on
UNKNOWN_STALL = 0x80D0FFFE
UNKNOWN = 0x87654321
DISABLED = 0x80070422  # of a service


def test_a_server_that_fails_after_the_assessment_is_the_cause() -> None:
    with UpdateMachine.opened(offer(1), search_hresults=[0, NO_NAME]) as machine:
        (update,) = machine.pending().values()
        unknown = replace(update, id=guid(9))  # so the server is asked for it
        status = machine.follow(machine.start(one(0, unknown)))
        (end,) = of_kind(status, "transaction_ended")
        assert end["exit_code"] == NO_NAME
        assert "0x80240438" in str(end["error"])
        assert of_kind(status, "transaction_started") == []


def test_definitions_of_defender_that_fail_name_its_own_tool() -> None:
    definitions = replace(offer(1, install_hresult=0x80070643, classification="definition"), kbs=("2267602",))
    with UpdateMachine.opened(definitions, offer(2, install_hresult=0x80070643)) as machine:
        updates = machine.pending().values()
        ends = of_kind(
            machine.follow(machine.start(*(one(n, each) for n, each in enumerate(updates)))), "transaction_ended"
        )
        told = [str(end["error"]) for end in ends]
        assert all(error.startswith("maintainer-script: KB") and "ERROR_INSTALL_FAILURE" in error for error in told)
        assert {"KB2267602" in error for error in told if 'MpCmdRun.exe" -SignatureUpdate' in error} == {True}


@pytest.mark.parametrize(
    ("code", "words", "cause"),
    [
        (UNKNOWN, "not in the table", "failed"),
        (UNKNOWN_SERVICING, "an error of Windows servicing", "failed"),
        (HTTP, "0x80244FFE", "fetch"),
        (UNKNOWN_STALL, "an error of Delivery Optimization", "fetch"),
    ],
)
def test_a_code_without_a_line_of_its_own_is_told(code: int, words: str, cause: str) -> None:
    with UpdateMachine.opened(offer(1, install_hresult=code)) as machine:
        (update,) = machine.pending().values()
        (end,) = of_kind(machine.follow(machine.start(one(0, update))), "transaction_ended")
        assert (end["exit_code"], end["cause"]) == (code, cause)
        assert words in str(end["error"])


def test_stalls_and_faults_of_the_machine_and_of_others_block_no_update() -> None:
    """Three tries each: only those count that the table blames on the update, and that fleetpatch itself made."""
    blameless = {1: STALLED, 2: 0x80240069, 3: 0x8007041D, 4: 0x80073712, 5: UNKNOWN_SERVICING}
    history = [entry for number, code in blameless.items() for entry in three_failures(guid(number), code)]
    history += three_failures(guid(6), 0x8024200B, client="UpdateOrchestrator") + three_failures(guid(7), 0x8024200B)
    first = offer(1, download_hresult=STALLED, download_failures=2)
    with UpdateMachine.opened(first, *map(offer, range(2, 8)), history=history) as machine:
        state = machine.assess()
        assert [update.name for update in state.updates if update.given_up] == ["KB5000007"]
        told = [remark.split()[0] for remark in state.remarks if "fails again and again" in remark]
        assert told == ["KB5000002", "KB5000004", "KB5000005"]
        (update,) = (update for update in state.updates if update.name == "KB5000001")
        status = machine.install(update)
        assert "try 2 of the download" in status.log
        assert machine.installed(update) == {"KB5000001": "rev 200"}


def test_a_download_that_fails_again_and_again_is_given_up() -> None:
    with UpdateMachine.opened(offer(1, download_hresult=NO_NAME)) as machine:
        (update,) = machine.pending().values()
        status = machine.follow(machine.start(one(0, update)))
        assert [end["exit_code"] for end in of_kind(status, "transaction_ended")] == [NO_NAME]
        assert "try 3" in status.log
        assert machine.installed(update) == {}


@pytest.mark.parametrize("kind", [JobKind.INSTALL, JobKind.STAGE])
def test_of_several_updates_the_one_that_is_refused_fails_the_transaction(kind: JobKind) -> None:
    with UpdateMachine.opened(offer(1), offer(2)) as machine:
        first, second = machine.pending().values()
        with change_state(machine.warm.windows.folder) as state:
            state["updates"][guid(2)]["hidden"] = True
        status = machine.follow(machine.start(one(0, first, second), kind=kind))
        (end,) = of_kind(status, "transaction_ended")
        assert (end["exit_code"], end["cause"]) == (1, "refused")
        assert "refused: KB5000002: it is on hold" in str(end["error"])
        assert machine.installed(first, second) == ({"KB5000001": "rev 200"} if kind is JobKind.INSTALL else {})


@pytest.mark.parametrize("eula_accepted", [True, False])
def test_an_agent_that_somebody_disables_meanwhile_is_the_cause(*, eula_accepted: bool) -> None:
    """The calls themselves fail: the download, and before it the licence terms."""
    offers = offer(1, download_gate="slow"), offer(2, eula_accepted=eula_accepted)
    with UpdateMachine.opened(*offers) as machine:
        first, second = machine.pending().values()
        job = machine.start(one(0, first, second), kind=JobKind.STAGE)
        machine.warm.windows.wait_until(lambda state: "started downloading" in str(state["events"]))
        with change_state(machine.warm.windows.folder) as state:
            (service,) = (each for each in state["services"] if each["name"] == "wuauserv")
            service["start_type"] = "Disabled"
        machine.warm.windows.open_gate("slow")
        (end,) = of_kind(machine.follow(job), "transaction_ended")
        assert end["exit_code"] == DISABLED
        assert "KB5000002: 0x80070422" in str(end["error"])
        assert machine.done("download") == [guid(1)]


def test_what_is_refused_is_not_downloaded_ahead() -> None:
    with UpdateMachine.opened(offer(1)) as machine:
        (update,) = machine.pending().values()
        with change_state(machine.warm.windows.folder) as state:
            state["updates"][guid(1)]["hidden"] = True
        status = machine.follow(machine.start(one(0, update), kind=JobKind.STAGE))
        assert [record["why"] for record in of_kind(status, "not_attempted")] == ["it is on hold"]
        assert machine.done("download") == []


def test_a_stop_takes_effect_between_two_updates_of_a_transaction() -> None:
    with UpdateMachine.opened(offer(1, install_gate="slow"), offer(2)) as machine:
        first, second = machine.pending().values()
        job = machine.start(one(0, first, second))
        machine.wait_for(job, "transaction_started")
        machine.stop(job)
        machine.warm.windows.open_gate("slow")
        (end,) = of_kind(machine.follow(job), "transaction_ended")
        assert (end["exit_code"], end["cause"]) == (1, "refused")
        assert "KB5000002: it was not begun: asked to stop" in str(end["error"])
        assert machine.installed(first, second) == {"KB5000001": "rev 200"}


def test_a_stop_ends_the_wait_for_another_installation() -> None:
    with UpdateMachine.opened(offer(1), installer_busy_seconds=600) as machine:
        (update,) = machine.pending().values()
        job = machine.start(one(0, update), quick={"lock_wait_seconds": "500"})
        machine.wait_for(job, "progress")
        machine.stop(job)
        status = machine.follow(job)
        assert [record["why"] for record in of_kind(status, "not_attempted")] == ["stop"]
        assert of_kind(status, "transaction_started") == []


def test_a_job_that_another_run_ends_says_for_whom() -> None:
    until = str(int(time.time()) + 3600)

    def take_lock(machine: UpdateMachine, run: str, **more: str) -> str:
        params = {"run": run, "attempt": "1", "by": "anna", "until": until, **more}
        result = machine.host.run_script(Script("machine_lock", params, read_only=False), deadline=soon())
        return "ending" if any(record["ending"] for record in result.find_records("taken")) else "locked"

    with UpdateMachine.opened(offer(1, install_gate="slow"), offer(2)) as machine:
        first, second = machine.pending().values()
        assert take_lock(machine, "run-1", kind="stage") == "locked"
        job = machine.start(one(0, first), one(1, second), quick={"lock_run": "run-1", "lock_attempt": "1"})
        machine.wait_for(job, "transaction_started")
        assert take_lock(machine, "run-2", preempts="stage") == "ending"
        machine.warm.windows.open_gate("slow")
        status = machine.follow(job)
        assert [(record["number"], record["why"], record["detail"]) for record in of_kind(status, "not_attempted")] == [
            (1, "preempted", "run-2 (anna)")
        ]
        assert machine.installed(first, second) == {"KB5000001": "rev 200"}
        assert take_lock(machine, "run-2", preempts="stage") == "locked"


def test_what_was_downloaded_before_its_licence_terms_were_accepted_is_installed() -> None:
    terms = offer(1, eula_accepted=False, downloaded=True)
    with UpdateMachine.opened(terms) as machine:
        (update,) = machine.pending().values()
        (end,) = of_kind(machine.follow(machine.start(one(0, update))), "transaction_ended")
        assert end["exit_code"] == 0
        assert machine.installed(update) == {"KB5000001": "rev 200"}
