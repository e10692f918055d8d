"""Image-based systems in a real shell, over stand-ins for their tools: staged, rolled back and guarded."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from inventory.machine import Inventory, Machine, PrivilegeMethod, TransportKind
from tasks.domain.errors import ManagerError
from tasks.domain.model import Selection, Update, Window
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, Transport
from tasks.domain.states import Classification, FindingLevel, OperationState, RebootState, UpdateState, YesNoUnknown
from tasks.machines.transport.session_factory import build_session
from tasks.rules.runs.outcome import determine_outcome_state
from tasks.steps.assess import assess_and_plan
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions, RunContext
from tasks.steps.install import install
from tasks.steps.precheck import precheck
from tasks.steps.validate import validate
from tests.contract.image_host import FAMILIES, ImageHost
from tests.support.builders import make_reboot_result, make_run
from tests.support.fake_records import FakeRecords

CLOCK = SystemClock()
MACHINE = Machine("here", "", transport=TransportKind.LOCAL, privilege=PrivilegeMethod.NONE)
HostMaker = Callable[[str], ImageHost]


def soon() -> Deadline:
    return Deadline.after(CLOCK, 300)


@pytest.fixture
def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostMaker:
    return lambda family: ImageHost(family, tmp_path, monkeypatch)


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[Transport]:
    with build_session(MACHINE, Inventory((MACHINE,)), clock=CLOCK, job_root=str(tmp_path / "own/jobs")) as session:
        yield session


# ---- one run


def build_context(host: ImageHost, transport: Transport) -> MachineContext:
    now = CLOCK.now()
    wanted = frozenset({Classification.UNCLASSIFIED, Classification.SECURITY})
    run = make_run(window=Window(now - timedelta(minutes=1), now + timedelta(hours=3)))
    options = PatchOptions(selection=Selection(classifications=wanted))
    run_context = RunContext(run, options, CLOCK, FakeRecords(), lambda _: transport, lambda _: host.manager)
    context = MachineContext(run_context, transport, MachineState(MACHINE))
    context.state = assess_and_plan(context)
    context.state = precheck(context)
    return context


CHECKS = {
    "bootc": "bootc upgrade --check",
    "rpm-ostree": "rpm-ostree upgrade --check",
    "transactional-update": "zypper --non-interactive refresh",
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_run_stages_the_image_and_asks_for_a_reboot(make_host: HostMaker, transport: Transport, family: str) -> None:
    host = make_host(family)
    context = build_context(host, transport)
    assert [update.id for update in context.plan.chosen] == ["deployment"]
    assert context.plan.reboot_expected is YesNoUnknown.YES
    context.state = install(context)
    assert context.state.install is not None
    (result,) = context.state.install.results
    assert (result.state, result.version_after, result.reason) == (
        UpdateState.INSTALLED,
        context.plan.chosen[0].available,
        "",
    )
    assert host.phase == "staged"
    assert host.manager.assess(transport, refresh=False, deadline=soon()).reboot.answer is YesNoUnknown.YES
    assert CHECKS[family] in (host.place / "calls").read_text(), "the source of the image was not asked"
    assert "then reboot" in context.state.install.transactions[0].undo


@pytest.mark.parametrize(
    ("family", "phase"), [("rpm-ostree", "fell-back"), ("bootc", "old"), ("transactional-update", "old")]
)
@pytest.mark.parametrize("waited", ["", "an image that was staged before the run"])
def test_a_machine_that_comes_back_as_it_was_has_failed(
    make_host: HostMaker, transport: Transport, family: str, phase: str, waited: str
) -> None:
    host = make_host(family)
    context = build_context(host, transport)
    context.state = install(context)
    before = context.plan.chosen[0].installed
    assert context.state.install is not None
    (result,) = context.state.install.results
    result = replace(result, update=replace(result.update, installed=waited or before))
    context.state = replace(context.state, install=replace(context.state.install, results=(result,)))
    host.enter(phase)
    context.state = replace(context.state, reboot=make_reboot_result(state=RebootState.COMPLETED))
    context.state = validate(context)
    assert context.state.install is not None
    assert context.state.validation is not None
    (result,) = context.state.install.results
    assert (result.state, result.version_after) == (UpdateState.FAILED, before)
    (finding,) = [each for each in context.state.validation.findings if each.check == "versions"]
    assert finding.level is FindingLevel.BLOCK
    state, reason = determine_outcome_state(
        results=context.state.install.results, validation=context.state.validation, reboot=context.state.reboot
    )
    assert state is OperationState.FAILED
    assert (f"not {context.plan.chosen[0].available}" if waited else "rolled back during the boot") in reason


@pytest.mark.parametrize("family", ["bootc", "transactional-update"])
def test_a_machine_that_comes_back_with_the_image_is_whole(
    make_host: HostMaker, transport: Transport, family: str
) -> None:
    host = make_host(family)
    context = build_context(host, transport)
    context.state = install(context)
    host.enter("new")
    context.state = replace(context.state, reboot=make_reboot_result(state=RebootState.COMPLETED))
    context.state = validate(context)
    assert context.state.validation is not None
    (finding,) = [each for each in context.state.validation.findings if each.check == "versions"]
    assert finding.level is FindingLevel.GOOD


# ---- the job


def run_job(
    host: ImageHost, transport: Transport, *, kind: JobKind = JobKind.INSTALL, seconds: float = 600
) -> JobStatus:
    (update,) = host.manager.assess(transport, refresh=False, deadline=soon()).updates
    return start_and_wait(host, transport, update, kind, seconds)


def start_and_wait(host: ImageHost, transport: Transport, update: Update, kind: JobKind, seconds: float) -> JobStatus:
    script = host.manager.build_job_script(kind, [Transaction(0, (update,), CLOCK.now().timestamp() + seconds, 1.0)])
    transport.start_job(Job("one", script), deadline=soon())
    deadline = soon()
    while (status := transport.poll_job("one", deadline=deadline)).phase is JobPhase.RUNNING:
        CLOCK.sleep(0.05)
    return status


def kinds(status: JobStatus) -> list[object]:
    return [event["kind"] for event in status.events if event["kind"] != "waiting"]


STAGED: dict[str, list[str]] = {
    "bootc": ["bootc upgrade"],
    "rpm-ostree": [
        "rpm-ostree upgrade --download-only --bypass-driver",
        "rpm-ostree upgrade --cache-only",
    ],
    "transactional-update": ["transactional-update --non-interactive up"],
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_installation_stages_and_never_reboots(make_host: HostMaker, transport: Transport, family: str) -> None:
    host = make_host(family)
    status = run_job(host, transport)
    assert kinds(status) == ["download_started", "transaction_started", "transaction_ended", "finished"]
    assert host.changes == STAGED[family]
    assert not any(word in change for change in host.changes for word in ("reboot", "--apply", "--allow-downgrade"))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_nothing_begins_when_it_is_too_late(make_host: HostMaker, transport: Transport, family: str) -> None:
    host = make_host(family)
    status = run_job(host, transport, seconds=-60)
    assert [(event["kind"], event.get("why")) for event in status.events] == [
        ("not_attempted", "window"),
        ("finished", None),
    ]
    assert host.phase == "old"


@pytest.mark.parametrize("family", ["bootc", "rpm-ostree"])
def test_a_status_that_fails_is_told_in_the_words_of_the_tool(
    make_host: HostMaker, transport: Transport, family: str
) -> None:
    host = make_host(family)
    host.breaks(family, "status")
    with pytest.raises(ManagerError, match=f"the status of {family} can't be read: error: no space left"):
        host.manager.assess(transport, refresh=False, deadline=soon())


@pytest.mark.parametrize(
    ("family", "tool", "words", "reason"),
    [
        ("bootc", "bootc", "--check", "is not known, so nothing is staged: error: no space left"),
        ("rpm-ostree", "ostree", "rev-parse", "is not known, so nothing is staged: error: no space left"),
        ("transactional-update", "btrfs", "get-default", "do not tell the running snapshot"),
        ("transactional-update", "zypper", "list-updates", "no space left"),
    ],
)
def test_a_question_that_fails_before_staging_stages_nothing(
    make_host: HostMaker, transport: Transport, family: str, tool: str, words: str, reason: str
) -> None:
    host = make_host(family)
    (update,) = host.manager.assess(transport, refresh=False, deadline=soon()).updates
    host.breaks(tool, words)
    status = start_and_wait(host, transport, update, JobKind.INSTALL, 600)
    (ended,) = [event for event in status.events if event["kind"] == "transaction_ended"]
    assert ended["exit_code"] != 0
    assert reason in str(ended["error"])
    assert host.phase == "old"


def test_bootc_downloads_nothing_apart_if_what_waits_is_not_known(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("bootc")
    host.can_download()
    (update,) = host.manager.assess(transport, refresh=False, deadline=soon()).updates
    host.breaks("bootc", "status")
    start_and_wait(host, transport, update, JobKind.INSTALL, 600)
    assert not any("--download-only" in change for change in host.changes)


def test_bootc_downloads_apart_when_it_can(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("bootc")
    host.can_download()
    assert kinds(run_job(host, transport)) == [
        "download_started",
        "transaction_started",
        "transaction_ended",
        "finished",
    ]
    assert host.changes == ["bootc upgrade --download-only", "bootc upgrade --from-downloaded"]


def test_a_download_ahead_stages_nothing(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("rpm-ostree")
    status = run_job(host, transport, kind=JobKind.STAGE)
    assert kinds(status) == ["transaction_started", "transaction_ended", "finished"]
    assert (host.phase, host.changes) == ("old", STAGED["rpm-ostree"][:1])


@pytest.mark.parametrize("family", ["bootc", "transactional-update"])
def test_a_tool_that_can_not_download_apart_says_so(make_host: HostMaker, transport: Transport, family: str) -> None:
    host = make_host(family)
    (event, _) = run_job(host, transport, kind=JobKind.STAGE).events
    assert (event["kind"], event["why"]) == ("not_attempted", "nothing is downloaded ahead")
    assert host.changes == []


@pytest.mark.parametrize("family", ["bootc", "rpm-ostree"])
def test_another_image_than_the_chosen_one_is_not_staged(
    make_host: HostMaker, transport: Transport, family: str
) -> None:
    host = make_host(family)
    (host.place / "offered").write_text("sha256:" * (family == "bootc") + "9" * 64)
    status = run_job(host, transport)
    (ended,) = [event for event in status.events if event["kind"] == "transaction_ended"]
    assert ended["cause"] == "gone"
    assert "999999999999" in str(ended["error"])
    assert "transaction_started" not in kinds(status)
    assert host.phase == "old"


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_lock_of_another_process_is_waited_for(make_host: HostMaker, transport: Transport, family: str) -> None:
    host = make_host(family)
    busy = (
        "echo 'error: Transaction in progress: deploy'"
        if family != "transactional-update"
        else "echo 'System management is locked by the application with pid 7 (zypper).'"
    )
    host.on("upgrade", f"[ -e tried ] || {{ touch tried; {busy}; exit 1; }}")
    status = run_job(host, transport)
    assert host.phase == "staged"
    assert [event["exit_code"] for event in status.events if event["kind"] == "transaction_ended"] == [0]


def test_a_lock_that_is_kept_is_the_cause(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("bootc")
    host.on("upgrade", "echo 'error: System transaction in progress'; exit 1")
    status = run_job(host, transport, seconds=8)
    (ended,) = [event for event in status.events if event["kind"] == "transaction_ended"]
    assert (ended["cause"], ended["exit_code"]) == ("lock", 1)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("error: Creating temp: No space left on device", "space"),
        (
            "error: Upgrade target revision 'a' with timestamp 'b' is chronologically older than current revision",
            "refused",
        ),
        ("ERROR Upgrading: reading manifest 9: manifest unknown", "gone"),
        ("error: While pulling x: While fetching y: [28] Timeout was reached", "fetch"),
        ("error: Can't check signature: public key not found", "refused"),
        ("error: something else", "failed"),
        ("x\nwarning: %post(ghostscript-9.52-2.2.x86_64) scriptlet failed, exit status 2", "maintainer-script"),
        ("foo.post: another instance of foo is already running\nerror: Running %post for foo", "failed"),
    ],
)
def test_why_it_failed_is_told(make_host: HostMaker, transport: Transport, words: str, cause: str) -> None:
    host = make_host("rpm-ostree")
    host.on("upgrade", f'echo "{words}"; exit 1')
    (ended,) = [event for event in run_job(host, transport).events if event["kind"] == "transaction_ended"]
    assert (ended["cause"], ended["error"]) == (cause, f"{cause}: {words.splitlines()[-1]}")
    assert "undo" not in ended
    assert host.phase == "old"


def test_a_download_that_takes_too_long_is_cancelled(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("rpm-ostree")
    host.on("download", "exec sleep 120")
    status = run_job(host, transport, seconds=6)
    assert [event["why"] for event in status.events if event["kind"] == "not_attempted"] == ["download"]
    assert host.changes[-1] == "rpm-ostree cancel"
    assert host.phase == "old"


@pytest.mark.parametrize("stopped", [False, True])
def test_what_another_one_downloads_is_never_cancelled(
    make_host: HostMaker, transport: Transport, tmp_path: Path, stopped: bool
) -> None:
    host = make_host("rpm-ostree")
    stop = f"touch '{tmp_path}/own/jobs/one/stop'" if stopped else ":"
    host.on("download", f"echo 'error: Transaction in progress: finalize-deployment'; {stop}; exit 1")
    status = run_job(host, transport, seconds=300 if stopped else 8)
    whys = [event["why"] for event in status.events if event["kind"] == "not_attempted"]
    causes = [event["cause"] for event in status.events if event["kind"] == "transaction_ended"]
    assert (whys, causes) == ((["stop"], []) if stopped else ([], ["lock"]))
    assert not any("cancel" in change for change in host.changes)


def test_a_client_that_was_ended_after_a_busy_answer_cancels_nothing(
    make_host: HostMaker, transport: Transport
) -> None:
    host = make_host("rpm-ostree")
    host.on("download", "echo 'error: Transaction in progress: finalize-deployment'; exec sleep 120")
    status = run_job(host, transport, seconds=6)
    assert [event["why"] for event in status.events if event["kind"] == "not_attempted"] == ["download"]
    assert not any("cancel" in change for change in host.changes)


@pytest.mark.parametrize("family", ["bootc", "rpm-ostree"])
def test_nothing_is_staged_when_the_source_does_not_say_what_it_offers(
    make_host: HostMaker, transport: Transport, family: str
) -> None:
    host = make_host(family)
    (host.place / "offered").write_text("")
    status = run_job(host, transport)
    (ended,) = [event for event in status.events if event["kind"] == "transaction_ended"]
    assert (ended["cause"], host.phase) == ("fetch", "old")
    assert "transaction_started" not in kinds(status)


UNDO = {
    "bootc": "before the reboot: ostree admin undeploy 0 ",
    "rpm-ostree": "before the reboot: rpm-ostree cleanup -p;",
    "transactional-update": "before the reboot: transactional-update rollback 12;",
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_how_to_undo_it_is_told_for_before_and_after_the_reboot(
    make_host: HostMaker, transport: Transport, family: str
) -> None:
    (ended,) = [event for event in run_job(make_host(family), transport).events if event["kind"] == "transaction_ended"]
    assert str(ended["undo"]).startswith(UNDO[family])
    assert "then reboot" in str(ended["undo"]).split("; after it: ")[1]


def test_a_snapshot_that_waits_is_continued(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("transactional-update")
    (update,) = host.manager.assess(transport, refresh=False, deadline=soon()).updates
    host.enter("staged")
    start_and_wait(host, transport, update, JobKind.INSTALL, 600)
    assert host.changes == ["transactional-update --non-interactive --continue 13 up"]


def test_a_rolling_system_gets_a_whole_release(make_host: HostMaker, transport: Transport) -> None:
    host = make_host("transactional-update")
    (host.place / "conf").write_text('# a comment\nUPDATE_METHOD="dup"\n')
    run_job(host, transport)
    assert host.changes == ["transactional-update --non-interactive dup"]
    assert "zypper --no-refresh --non-interactive list-updates --all" in (host.place / "calls").read_text()


@pytest.mark.parametrize("code", [0, 100, 106])
def test_patches_without_packages_are_installed_as_patches(
    make_host: HostMaker, transport: Transport, code: int
) -> None:
    host = make_host("transactional-update")
    (host.place / "updates-old").write_text("No updates found.\n")
    (host.place / "updates-code").write_text(f"{code}")
    run_job(host, transport)
    assert host.changes == ["transactional-update --non-interactive patch"]


# ---- the guard of the reboot


@pytest.mark.parametrize("family", ["bootc", "rpm-ostree"])
def test_a_machine_is_not_rebooted_while_its_deployments_are_changed(
    make_host: HostMaker, transport: Transport, family: str
) -> None:
    host = make_host(family)
    guard = Script("reboot_obstacles", {"locks": host.manager.lock_files}, package=host.manager.script_package)
    with host.lock.open("w") as file:
        assert list(transport.run_script(guard, deadline=soon()).find_records("obstacle")) == []
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
        (obstacle,) = transport.run_script(guard, deadline=soon()).find_records("obstacle")
        assert obstacle["about"] == "lock"
        assert "deployments" in str(obstacle["why"])
        assert "deployments" in host.manager.assess(transport, refresh=False, deadline=soon()).at_work


def test_the_lock_that_the_shutdown_needs_is_never_taken() -> None:
    assert all(tool.lock_files == () for tool, _ in (FAMILIES["bootc"], FAMILIES["rpm-ostree"]))


def test_a_transactional_update_at_work_keeps_the_machine_from_being_rebooted(
    make_host: HostMaker, transport: Transport
) -> None:
    host = make_host("transactional-update")
    guard = Script("reboot_obstacles", {"locks": ()}, package=host.manager.script_package)
    (host.place / "pid").write_text(f"{os.getpid()}\n")  # a number that was left behind: this is another program
    assert list(transport.run_script(guard, deadline=soon()).find_records("obstacle")) == []
    with subprocess.Popen(["sh", "-c", "read line", "transactional-update"], stdin=subprocess.PIPE) as working:
        (host.place / "pid").write_text(f"{working.pid}\n")
        (obstacle,) = transport.run_script(guard, deadline=soon()).find_records("obstacle")
        assert str(working.pid) in str(obstacle["why"])
