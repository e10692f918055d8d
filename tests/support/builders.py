"""Builders of model objects for tests: each gives a realistic one, and any field can be overridden by keyword.

    make_update(name="curl", installed="7.88.1-10+deb12u5")
    make_outcome(machine="db-1", state=OperationState.FAILED, reason="apt: broken packages")

What is built hangs together: the outcome's updates are the assessment's, times follow each other, counts agree.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from inventory.machine import Machine
from tasks.domain.model import (
    Assessment,
    Disk,
    DurationPrediction,
    ErrorInfo,
    Facts,
    Finding,
    InstallResult,
    JobOutput,
    MachinePlan,
    Outcome,
    PackageState,
    RebootNeed,
    RebootResult,
    RunInfo,
    RunReport,
    Selection,
    Services,
    StepRecord,
    TransactionResult,
    Update,
    UpdateResult,
    ValidationResult,
    Wave,
    Window,
)
from tasks.domain.protocols.records import JournalEntry, JournalMark
from tasks.domain.states import (
    Classification,
    FindingLevel,
    OperationState,
    RebootState,
    Step,
    UpdateState,
    YesNoUnknown,
)

RUN_ID = "20260310-0100-7f3a"
MACHINE = "web-1"
START = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The moment that many seconds after the run's start."""
    return START + timedelta(seconds=seconds)


def make_machine(**changes: Any) -> Machine:
    base = Machine(name=MACHINE, address="192.0.2.11", user="patcher", credential="key:~/.ssh/id_ed25519")
    return replace(base, **changes)


def make_disk(**changes: Any) -> Disk:
    base = Disk("/", "system", 20 * 1024**3, 11 * 1024**3, 1_200_000, read_only=False)
    return replace(base, **changes)


def make_facts(**changes: Any) -> Facts:
    base = Facts(
        os_id="debian",
        os_version="12",
        os_name="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.0-28-amd64",
        arch="x86_64",
        boot_id="0b0c5f8e-5a2e-4c36-9a36-1f4a4b0b7a11",
        uptime_seconds=864_000.0,
        clock_skew_seconds=0.04,
        privilege="sudo",
        managers=("apt",),
        job_runner="systemd",
        can_reboot=True,
        disks=(make_disk(), make_disk(mount="/boot", role="boot", total_bytes=512 * 1024**2)),
        services=Services(failed=(), listening=("tcp/22", "tcp/443")),
    )
    return replace(base, **changes)


def make_update(**changes: Any) -> Update:
    """A security update of openssl; ``id`` follows ``name`` and ``arch`` unless it is given."""
    base = Update(
        id="",
        name="openssl",
        arch="amd64",
        installed="3.0.15-1~deb12u1",
        available="3.0.16-1~deb12u1",
        classification=Classification.SECURITY,
        severity="Important",
        origins=("Debian-Security:12/stable-security",),
        cves=("CVE-2024-13176",),
        size_bytes=1_430_000,
        group="openssl",
        requires_reboot=False,
        published=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    )
    built = replace(base, **changes)
    return built if built.id else replace(built, id=f"{built.name}:{built.arch}")


def make_kernel_update(**changes: Any) -> Update:
    """A kernel update, which asks for a reboot."""
    values: dict[str, Any] = {
        "name": "linux-image-amd64",
        "installed": "6.1.123-1",
        "available": "6.1.128-1",
        "cves": ("CVE-2024-53166", "CVE-2025-21671"),
        "size_bytes": 68_900_000,
        "group": "linux",
        "requires_reboot": True,
        "changes_boot": True,
    }
    return make_update(**(values | changes))


def make_other_update(**changes: Any) -> Update:
    """An update that is not about security."""
    values: dict[str, Any] = {
        "name": "tzdata",
        "arch": "all",
        "installed": "2024b-0+deb12u1",
        "available": "2025a-0+deb12u1",
        "classification": Classification.OTHER,
        "severity": "",
        "origins": ("Debian:12.9/stable",),
        "cves": None,
        "size_bytes": 296_000,
        "group": "",
    }
    return make_update(**(values | changes))


def make_package_state(**changes: Any) -> PackageState:
    base = PackageState(
        manager="apt",
        updates=(make_update(), make_kernel_update(), make_other_update()),
        reboot=RebootNeed(YesNoUnknown.NO),
        auto_updaters=(("apt-daily-upgrade.timer", 18_000.0),),
    )
    return replace(base, **changes)


def make_assessment(**changes: Any) -> Assessment:
    base = Assessment(
        machine=MACHINE,
        at=at(5),
        seconds=3.2,
        facts=make_facts(),
        packages=make_package_state(),
        run_id=RUN_ID,
    )
    return replace(base, **changes)


def make_failed_assessment(**changes: Any) -> Assessment:
    """An assessment that came to nothing: the machine did not answer."""
    values: dict[str, Any] = {"facts": None, "packages": None, "error": make_error()}
    return make_assessment(**(values | changes))


def make_error(**changes: Any) -> ErrorInfo:
    base = ErrorInfo("Unreachable", "no answer at 192.0.2.11:22 within 10 s", "Is the machine up?", transient=True)
    return replace(base, **changes)


def make_selection(**changes: Any) -> Selection:
    return replace(Selection(), **changes)


def make_window(**changes: Any) -> Window:
    return replace(Window(START, START + timedelta(hours=3), "Europe/Berlin"), **changes)


def make_update_result(**changes: Any) -> UpdateResult:
    """An installed update; ``version_after`` is the available version unless it is given."""
    base = UpdateResult(make_update(), UpdateState.INSTALLED)
    built = replace(base, **changes)
    if built.state is UpdateState.INSTALLED and "version_after" not in changes:
        built = replace(built, version_after=built.update.available)
    return built


def make_results() -> tuple[UpdateResult, ...]:
    """Two updates installed, one not selected."""
    reason = "classification Other is not among Critical, Security"
    return (
        make_update_result(),
        make_update_result(update=make_kernel_update()),
        make_update_result(update=make_other_update(), state=UpdateState.NOT_SELECTED, reason=reason),
    )


def make_prediction(**changes: Any) -> DurationPrediction:
    return replace(DurationPrediction(stage=12.0, install=95.0, reboot=70.0, validate=10.0, basis="learned"), **changes)


def make_plan(**changes: Any) -> MachinePlan:
    base = MachinePlan(
        machine=MACHINE,
        chosen=(make_update(), make_kernel_update()),
        skipped=make_results()[2:],
        prediction=make_prediction(),
        reboot_expected=YesNoUnknown.YES,
        notes=("reboot reserve 15 min",),
    )
    return replace(base, **changes)


def make_wave(**changes: Any) -> Wave:
    return replace(Wave(0, (MACHINE,), canary=True), **changes)


def make_finding(**changes: Any) -> Finding:
    return replace(Finding("disk", FindingLevel.GOOD, "11.0 GiB free on /"), **changes)


def make_transaction(**changes: Any) -> TransactionResult:
    base = TransactionResult(0, ("openssl:amd64", "linux-image-amd64:amd64"), at(60), at(140), 0)
    return replace(base, **changes)


def make_install_result(**changes: Any) -> InstallResult:
    base = InstallResult(
        results=make_results(),
        transactions=(make_transaction(),),
        job_ids=(f"{RUN_ID}-{MACHINE}-install",),
        unasked=("libssl3 3.0.15-1~deb12u1 -> 3.0.16-1~deb12u1",),
        overhead_updates=7.5,
    )
    return replace(base, **changes)


def make_reboot_result(**changes: Any) -> RebootResult:
    base = RebootResult(
        state=RebootState.COMPLETED,
        reason="linux-image-amd64 was installed",
        boot_id_before="0b0c5f8e-5a2e-4c36-9a36-1f4a4b0b7a11",
        boot_id_after="d9d7cf0c-7c1e-4f3b-8a53-6f1f1d0f3b22",
        down_seconds=9.0,
        up_seconds=41.0,
        count=1,
    )
    return replace(base, **changes)


def make_validation(**changes: Any) -> ValidationResult:
    after = make_assessment(at=at(220), packages=make_package_state(updates=(make_other_update(),)))
    return replace(ValidationResult(findings=(make_finding(check="services"),), assessment=after), **changes)


def make_step(**changes: Any) -> StepRecord:
    return replace(StepRecord(Step.INSTALL, at(30), at(145), OperationState.SUCCEEDED), **changes)


def make_steps() -> tuple[StepRecord, ...]:
    """All steps of a machine that was patched and restarted."""
    spans = {
        Step.ASSESS: (2, 6),
        Step.PRECHECK: (6, 8),
        Step.INSTALL: (30, 145),
        Step.REBOOT: (145, 196),
        Step.VALIDATE: (196, 222),
    }
    return tuple(make_step(step=step, started_at=at(a), ended_at=at(b)) for step, (a, b) in spans.items())


def make_outcome(**changes: Any) -> Outcome:
    base = Outcome(
        run_id=RUN_ID,
        machine=MACHINE,
        state=OperationState.SUCCEEDED,
        reason="2 updates installed",
        updates=make_results(),
        reboot=RebootState.COMPLETED,
        wave=0,
        started_at=at(2),
        ended_at=at(222),
        steps=make_steps(),
        findings=(make_finding(),),
        prediction=make_prediction(),
        install=make_install_result(),
        reboot_result=make_reboot_result(),
        facts=make_facts(),
    )
    return replace(base, **changes)


def make_failed_outcome(**changes: Any) -> Outcome:
    """The outcome of a machine that did not answer: nothing was done to it."""
    values: dict[str, Any] = {
        "machine": "web-2",
        "state": OperationState.FAILED,
        "reason": "no answer at 192.0.2.12:22 within 10 s",
        "updates": (),
        "reboot": RebootState.UNKNOWN,
        "ended_at": at(12),
        "steps": (make_step(step=Step.ASSESS, started_at=at(2), ended_at=at(12), state=OperationState.FAILED),),
        "findings": (),
        "prediction": None,
        "install": None,
        "reboot_result": None,
        "facts": None,
        "error": make_error(message="no answer at 192.0.2.12:22 within 10 s"),
    }
    return make_outcome(**(values | changes))


def make_run(**changes: Any) -> RunInfo:
    base = RunInfo(
        id=RUN_ID,
        kind="patch",
        started_at=START,
        state=OperationState.SUCCEEDED,
        request={"scope": {"environments": ["prod"]}, "reboot": "IfRequired", "canaries": 1},
        window=make_window(),
        scope="environment prod",
        ended_at=at(230),
        started_by="schedule",
        flow_run_id="b53fe0b6-4cde-4a35-a0d7-2f6f2ee8b7a4",
    )
    return replace(base, **changes)


def make_report(**changes: Any) -> RunReport:
    """A run over two machines: one was patched, one did not answer."""
    base = RunReport(
        run=make_run(state=OperationState.FAILED, message="1 of 2 machines failed"),
        outcomes=(make_outcome(), make_failed_outcome()),
        waves=(make_wave(machines=(MACHINE, "web-2")),),
        plans=(make_plan(),),
        assessments=(make_assessment(), make_failed_assessment(machine="web-2", at=at(12))),
    )
    return replace(base, **changes)


def make_job_output(**changes: Any) -> JobOutput:
    text = "Reading package lists...\nSetting up openssl (3.0.16-1~deb12u1) ...\n"
    return replace(JobOutput(RUN_ID, MACHINE, f"{RUN_ID}-{MACHINE}-install", text), **changes)


def make_journal_entry(**changes: Any) -> JournalEntry:
    base = JournalEntry(
        run_id=RUN_ID,
        machine=MACHINE,
        step=Step.INSTALL,
        mark=JournalMark.BEFORE,
        act="install",
        key=f"{RUN_ID}-{MACHINE}-install",
        at=at(58),
        detail={"updates": 2},
    )
    return replace(base, **changes)
