"""Runs as they happen, for tests of the reports and for looking at them.

    python -m tests.unit.reporting.samples /tmp/reports

writes each of them as a page.
"""

import random
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.model import (
    Assessment,
    ErrorInfo,
    Finding,
    InstallResult,
    Outcome,
    PackageState,
    Plan,
    Prediction,
    RebootNeed,
    RebootResult,
    RunInfo,
    RunReport,
    StepRecord,
    TransactionResult,
    Update,
    UpdateResult,
    Wave,
    Window,
)
from tasks.states import (
    Answer,
    Classification,
    FindingLevel,
    OperationState,
    RebootState,
    Step,
    UpdateState,
)
from tests.support.builders import make_facts

START = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=2), "Europe/Berlin")

_CATALOGUE = (
    ("openssl", "3.0.15-1~deb12u1", "3.0.17-1~deb12u3", Classification.SECURITY, ("CVE-2025-9230", "CVE-2025-9232")),
    ("libssl3", "3.0.15-1~deb12u1", "3.0.17-1~deb12u3", Classification.SECURITY, ("CVE-2025-9230", "CVE-2025-9232")),
    ("linux-image-amd64", "6.1.123-1", "6.1.153-1", Classification.SECURITY, ("CVE-2025-38352", "CVE-2025-38498")),
    ("sudo", "1.9.13p3-1+deb12u1", "1.9.13p3-1+deb12u2", Classification.CRITICAL, ("CVE-2025-32462",)),
    ("postgresql-15", "15.12-0+deb12u2", "15.14-0+deb12u1", Classification.SECURITY, ("CVE-2025-8713",)),
    ("nginx", "1.22.1-9", "1.22.1-9+deb12u3", Classification.SECURITY, ("CVE-2025-23419",)),
    ("libxml2", "2.9.14+dfsg-1.3~deb12u1", "2.9.14+dfsg-1.3~deb12u4", Classification.SECURITY, ("CVE-2025-49794",)),
    ("curl", "7.88.1-10+deb12u8", "7.88.1-10+deb12u14", Classification.SECURITY, ()),
    ("libc6", "2.36-9+deb12u9", "2.36-9+deb12u13", Classification.SECURITY, ("CVE-2025-4802",)),
    ("perl-base", "5.36.0-7+deb12u1", "5.36.0-7+deb12u3", Classification.SECURITY, ("CVE-2024-56406",)),
    ("tzdata", "2024b-0+deb12u1", "2025b-0+deb12u2", Classification.OTHER, None),
    ("base-files", "12.4+deb12u9", "12.4+deb12u12", Classification.OTHER, None),
    ("docker-ce", "5:27.3.1-1", "5:28.5.1-1", Classification.UNCLASSIFIED, None),
    ("bash-completion", "1:2.11-6", "1:2.11-6+deb12u1", Classification.OTHER, None),
)

LOG = (
    "Reading package lists...\nBuilding dependency tree...\nReading state information...\n"
    "The following packages will be upgraded:\n  libssl3 openssl sudo\n"
    "(Reading database ... 5%\r(Reading database ... 100%\r(Reading database ... 41217 files installed.)\n"
    "Preparing to unpack .../libssl3_3.0.17-1~deb12u3_amd64.deb ...\n"
    "Unpacking libssl3:amd64 (3.0.17-1~deb12u3) over (3.0.15-1~deb12u1) ...\n"
    "\x1b[1mSetting up\x1b[0m libssl3:amd64 (3.0.17-1~deb12u3) ...\nSetting up sudo (1.9.13p3-1+deb12u2) ...\n"
    "Processing triggers for libc-bin (2.36-9+deb12u9) ...\n"
)


def updates(count: int, *, seed: int = 1) -> tuple[Update, ...]:
    """That many different updates; the first fourteen are real ones."""
    chance = random.Random(seed)
    named = list(_CATALOGUE) + [
        (f"lib{word}{number}", f"{number}.1-1", f"{number}.1-1+deb12u1", Classification.OTHER, None)
        for number in range(max(0, count - len(_CATALOGUE)))
        for word in (chance.choice(("gnutls", "expat", "tiff", "webp", "krb5", "ldap", "sqlite", "avahi")),)
    ]
    return tuple(
        Update(
            id=f"{name}:amd64",
            name=name,
            arch="amd64",
            installed=before,
            available=after,
            classification=kind,
            cves=cves,
            size_bytes=120_000 + 37_000 * len(name),
            origins=("Debian-Security:12/stable-security",)
            if kind is not Classification.OTHER
            else ("Debian:12/stable",),
            requires_reboot=name.startswith(("linux-image", "libc6")),
        )
        for name, before, after, kind, cves in named[:count]
    )


def installed(update: Update) -> UpdateResult:
    return UpdateResult(update, UpdateState.INSTALLED, version_after=update.available)


def left(update: Update, state: UpdateState, reason: str) -> UpdateResult:
    return UpdateResult(update, state, reason)


def _usual(pending: tuple[Update, ...]) -> tuple[UpdateResult, ...]:
    """All that is urgent was installed, docker is excluded, the rest was not asked for."""
    found = []
    for update in pending:
        if update.name == "docker-ce":
            found.append(left(update, UpdateState.EXCLUDED, "excluded by mask docker*"))
        elif update.classification in (Classification.OTHER, Classification.UNCLASSIFIED):
            why = f"classification {update.classification} is not among Critical, Security"
            found.append(left(update, UpdateState.NOT_SELECTED, why))
        else:
            found.append(installed(update))
    return tuple(found)


def steps(
    at: datetime, lengths: dict[Step, float], failed: Step | None = None, why: str = ""
) -> tuple[StepRecord, ...]:
    """Steps one after the other from a moment on."""
    done = []
    for step, seconds in lengths.items():
        end = at + timedelta(seconds=seconds)
        bad = step is failed
        state = OperationState.FAILED if bad else OperationState.SUCCEEDED
        done.append(StepRecord(step, at, end, state, why if bad else ""))
        at = end
    return tuple(done)


def good_outcome(machine: str, at: datetime, wave: int, *, pending: int = 14, seed: int = 1) -> Outcome:
    """A machine that went well, with a reboot."""
    chance = random.Random(f"{machine}{seed}")
    lengths = {
        Step.ASSESS: chance.uniform(8, 30),
        Step.PRECHECK: chance.uniform(4, 9),
        Step.INSTALL: chance.uniform(120, 420),
        Step.REBOOT: chance.uniform(45, 140),
        Step.VALIDATE: chance.uniform(10, 28),
        Step.REPORT: 1.2,
    }
    told = _usual(updates(pending))
    done = steps(at, lengths)
    begun = done[2].started_at
    names = tuple(r.update.id for r in told if r.state is UpdateState.INSTALLED)
    return Outcome(
        run_id="20261120-0100-7f3a",
        machine=machine,
        state=OperationState.SUCCEEDED,
        reason="",
        updates=told,
        reboot=RebootState.COMPLETED,
        wave=wave,
        started_at=at,
        ended_at=done[-1].ended_at,
        steps=done,
        findings=(
            Finding("disk /", FindingLevel.GOOD, "11.0 GiB free, 1.2 GiB are needed"),
            Finding("services", FindingLevel.GOOD, "no unit failed that had not failed before"),
        ),
        prediction=Prediction(20, 260, 90, 20, "3 earlier runs"),
        install=InstallResult(
            results=told,
            transactions=(
                TransactionResult(0, names[:4], begun, begun + timedelta(seconds=70), 0),
                TransactionResult(1, names[4:], begun + timedelta(seconds=70), done[2].ended_at, 0),
            ),
            job_ids=("install-0",),
            unasked=("libperl5.36 5.36.0-7+deb12u1 -> 5.36.0-7+deb12u3",),
        ),
        reboot_result=RebootResult(
            RebootState.COMPLETED,
            "linux-image-6.1.0-40-amd64 was installed",
            "0b0c5f8e5a2e",
            "91d2aa6e7c01",
            11.0,
            48.0,
            1,
        ),
        facts=make_facts(),
    )


def _run(kind: str, state: OperationState, **changes: object) -> RunInfo:
    base = RunInfo(
        id="20261120-0100-7f3a",
        kind=kind,
        started_at=START + timedelta(seconds=4),
        state=state,
        request={"reboot_reserve_minutes": 15, "selection": {"exclude": ["docker*"]}},
        window=WINDOW,
        scope="environment=production, role in (web, db, app)",
        ended_at=START + timedelta(minutes=24),
        started_by="schedule production-thursday",
        flow_run_id="c0f7a9d2-6f1b-4b0e-9d8f-5b7d1f3a0e21",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def three() -> tuple[RunReport, dict[str, str]]:
    """Three machines; all is well."""
    outcomes = (
        good_outcome("web-1", START + timedelta(seconds=10), 1, pending=12),
        good_outcome("web-2", START + timedelta(minutes=10), 2, pending=12),
        good_outcome("db-1", START + timedelta(minutes=10), 2, pending=12),
    )
    waves = (Wave(1, ("web-1",), canary=True), Wave(2, ("web-2", "db-1")))
    run = _run("patch", OperationState.SUCCEEDED, scope="environment=staging", ended_at=outcomes[1].ended_at)
    return RunReport(run, outcomes, waves), dict.fromkeys(("web-1", "web-2", "db-1"), LOG)


def _unreachable(machine: str, at: datetime, wave: int) -> Outcome:
    message = f"no answer at 10.20.3.{len(machine) + wave}:22 within 10 s"
    return replace(
        good_outcome(machine, at, wave),
        state=OperationState.FAILED,
        reason=f"{machine} can't be reached",
        updates=(),
        reboot=RebootState.UNKNOWN,
        ended_at=at + timedelta(seconds=31),
        steps=steps(at, {Step.ASSESS: 31}, Step.ASSESS, message),
        findings=(),
        install=None,
        reboot_result=None,
        facts=None,
        error=ErrorInfo(
            "Unreachable", message, "Is the machine up, and does the firewall let port 22 through?", transient=True
        ),
    )


def _not_begun(machine: str, wave: int, reason: str) -> Outcome:
    told = tuple(
        left(r.update, UpdateState.NOT_ATTEMPTED, reason) if r.state is UpdateState.INSTALLED else r
        for r in _usual(updates(14))
    )
    return Outcome(
        run_id="20261120-0100-7f3a",
        machine=machine,
        state=OperationState.NOT_STARTED,
        reason=reason,
        updates=told,
        wave=wave,
        facts=make_facts(),
    )


def _dpkg_failed(machine: str, at: datetime, wave: int) -> Outcome:
    good = good_outcome(machine, at, wave)
    why = "postinst of postgresql-15 ended with exit code 1: data directory is owned by uid 1001"
    told = tuple(
        left(r.update, UpdateState.FAILED, why) if r.update.name == "postgresql-15" else r for r in good.updates
    )
    done = steps(at, {Step.ASSESS: 21, Step.PRECHECK: 6, Step.INSTALL: 388, Step.VALIDATE: 14}, Step.INSTALL, why)
    assert good.install is not None
    transactions = (good.install.transactions[0], replace(good.install.transactions[1], exit_code=100, detail=why))
    return replace(
        good,
        state=OperationState.FAILED,
        reason="1 of 10 updates failed: postgresql-15",
        updates=told,
        reboot=RebootState.REQUIRED,
        ended_at=done[-1].ended_at,
        steps=done,
        install=replace(good.install, results=told, transactions=transactions),
        reboot_result=RebootResult(RebootState.REQUIRED, "not rebooted: the package state is broken"),
        findings=(
            *good.findings,
            Finding(
                "packages",
                FindingLevel.BLOCK,
                "postgresql-15 is unpacked but not configured",
                "Mend the cause, then run: dpkg --configure -a",
            ),
        ),
        error=ErrorInfo("BrokenPackages", why, "Look at the log below; then run dpkg --configure -a on the machine."),
    )


def _no_return(machine: str, at: datetime, wave: int) -> Outcome:
    good = good_outcome(machine, at, wave)
    lengths = {Step.ASSESS: 17, Step.PRECHECK: 6, Step.INSTALL: 291, Step.REBOOT: 900}
    why = "went down, and no login worked within 15 min"
    done = steps(at, lengths, Step.REBOOT, why)
    return replace(
        good,
        state=OperationState.FAILED,
        reason=f"reboot: {why}",
        reboot=RebootState.FAILED,
        ended_at=done[-1].ended_at,
        steps=done,
        reboot_result=RebootResult(RebootState.FAILED, why, "0b0c5f8e5a2e", "", 9.0, None, 1),
        error=ErrorInfo("RebootFailed", why, "Look at its console; the update set is complete on disk."),
    )


def _warned(machine: str, at: datetime, wave: int) -> Outcome:
    good = good_outcome(machine, at, wave)
    finding = Finding(
        "services", FindingLevel.WARN, "unit php8.2-fpm.service failed since the update", "systemctl status php8.2-fpm"
    )
    return replace(
        good,
        state=OperationState.COMPLETED_WITH_WARNINGS,
        reason="1 warning after patching: unit php8.2-fpm.service failed since the update",
        findings=(*good.findings, finding),
    )


def forty() -> tuple[RunReport, dict[str, str]]:
    """Forty machines: failures, machines out of reach, a halted wave, no time left."""
    names = [f"web-{n:02d}" for n in range(1, 17)] + [f"app-{n:02d}" for n in range(1, 15)]
    names += [f"db-{n:02d}.fra1.example.net" for n in range(1, 11)]
    waves = (
        Wave(1, tuple(names[:2]), canary=True),
        Wave(2, tuple(names[2:12])),
        Wave(3, tuple(names[12:26])),
        Wave(4, tuple(names[26:])),
    )
    begins = {1: START + timedelta(seconds=9), 2: START + timedelta(minutes=13), 3: START + timedelta(minutes=33)}
    special = {
        "web-07": _warned,
        "web-11": _unreachable,
        "web-14": _unreachable,
        "app-03": _unreachable,
        "web-15": _dpkg_failed,
        "app-05": _dpkg_failed,
        "app-08": _no_return,
        "app-09": _warned,
    }
    halted = "wave 4 was not begun: 5 of 14 machines of wave 3 failed (36 %), more than the 20 % allowed"
    outcomes = []
    for wave in waves:
        for number, name in enumerate(wave.machines):
            if wave.number == 4:
                outcomes.append(_not_begun(name, 4, halted))
                continue
            at = begins[wave.number] + timedelta(seconds=23 * number)
            make = special.get(name, good_outcome)
            outcomes.append(make(name, at, wave.number))
    late = "needs 6 min 40 s, but only 4 min 10 s are left before the reboot reserve of 15 min"
    slow = outcomes[19]
    told = tuple(
        left(r.update, UpdateState.NOT_ATTEMPTED, late) if r.update.name in ("linux-image-amd64", "libc6") else r
        for r in slow.updates
    )
    outcomes[19] = replace(
        slow,
        state=OperationState.COMPLETED_WITH_WARNINGS,
        reason="2 updates were not attempted: no time left in the window",
        updates=told,
    )
    message = "6 of 40 machines failed; wave 4 was not begun"
    ended = max(o.ended_at for o in outcomes if o.ended_at) + timedelta(seconds=4)
    run = _run("patch", OperationState.FAILED, message=message, ended_at=ended)
    failed_log = LOG + (
        "Setting up postgresql-15 (15.14-0+deb12u1) ...\n"
        "\x1b[31mError:\x1b[0m /var/lib/postgresql/15/main is not owned by postgres\n"
        "dpkg: error processing package postgresql-15 (--configure):\n"
        " installed postgresql-15 package post-installation script subprocess returned error exit status 1\n"
        "Errors were encountered while processing:\n postgresql-15\n"
        "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
    )
    logs = {o.machine: failed_log if o.error and o.install else LOG for o in outcomes if o.install}
    return RunReport(run, tuple(outcomes), waves), logs


def empty() -> tuple[RunReport, dict[str, str]]:
    """A dry run in which nothing is pending and nobody is there."""
    run = _run("plan", OperationState.SUCCEEDED, scope="role=mail", ended_at=START + timedelta(seconds=6))
    return RunReport(run, ()), {}


def plan() -> tuple[RunReport, dict[str, str]]:
    """A dry run over twelve machines."""
    names = [f"web-{n}" for n in range(1, 7)] + [f"db-{n}" for n in range(1, 7)]
    waves = (Wave(1, ("web-1",), canary=True), Wave(2, tuple(names[1:6])), Wave(3, tuple(names[6:])))
    plans, assessments = [], []
    for number, name in enumerate(names):
        pending = updates(6 + number % 9)
        facts = make_facts()
        state = PackageState("apt", pending, RebootNeed(Answer.NO))
        assessments.append(Assessment(name, START + timedelta(seconds=number), 4.2, facts, state))
        if name == "db-3":
            error = ErrorInfo(
                "Unreachable", "no answer at 10.20.3.9:22 within 10 s", "Is the machine up?", transient=True
            )
            assessments[-1] = Assessment(name, START, 10.0, error=error)
            continue
        told = _usual(pending)
        kernel = any(r.update.requires_reboot and r.state is UpdateState.INSTALLED for r in told)
        plans.append(
            Plan(
                machine=name,
                chosen=tuple(r.update for r in told if r.state is UpdateState.INSTALLED),
                skipped=tuple(r for r in told if r.state is not UpdateState.INSTALLED),
                prediction=Prediction(
                    25, 150 + 30 * number, 95 if kernel else 0, 15, "3 earlier runs" if number % 2 else "defaults"
                ),
                reboot_expected=Answer.YES if kernel else Answer.NO,
                notes=("unattended-upgrades may hold the lock at 02:17",) if number == 4 else (),
            )
        )
    run = _run("plan", OperationState.SUCCEEDED, ended_at=START + timedelta(seconds=47))
    return RunReport(run, (), waves, tuple(plans), tuple(assessments)), {}


def assessment() -> tuple[RunReport, dict[str, str]]:
    """An assessment of eight machines, one of them out of reach."""
    found = []
    for number in range(1, 9):
        pending = updates(14)[number + 2 :] if number < 7 else updates(14)[10:12]
        need = RebootNeed(Answer.YES, ("linux-base",)) if number == 2 else RebootNeed(Answer.NO)
        packages = PackageState("apt", pending, need)
        found.append(Assessment(f"app-{number}", START, 3.0 + number / 3, make_facts(), packages))
    error = ErrorInfo("AuthenticationFailed", "the machine refused the key", "Is the key in authorized_keys?")
    found[4] = Assessment("app-5", START, 1.0, error=error)
    run = _run("assess", OperationState.COMPLETED_WITH_WARNINGS, window=None, ended_at=START + timedelta(seconds=11))
    return RunReport(run, (), assessments=tuple(found)), {}


def many(machines: int, pending: int) -> RunReport:
    """A big fleet: a few fail, most go well."""
    names = [f"node-{n:05d}" for n in range(machines)]
    size = max(1, machines // 10)
    waves = tuple(Wave(n + 1, tuple(names[i : i + size])) for n, i in enumerate(range(0, machines, size)))
    outcomes = []
    for wave in waves:
        for number, name in enumerate(wave.machines):
            at = START + timedelta(minutes=11 * (wave.number - 1), seconds=3 * (number % 80))
            make = _dpkg_failed if number % 37 == 5 else _unreachable if number % 53 == 7 else None
            outcome = (
                good_outcome(name, at, wave.number, pending=pending) if make is None else make(name, at, wave.number)
            )
            outcomes.append(outcome)
    ended = max(o.ended_at for o in outcomes if o.ended_at)
    return RunReport(_run("patch", OperationState.FAILED, ended_at=ended), tuple(outcomes), waves)


def main(directory: Path) -> None:
    """Write every sample as a page."""
    from tasks.reporting.html import ALL_BESIDE, render_html

    directory.mkdir(parents=True, exist_ok=True)
    made = {"three": three(), "forty": forty(), "empty": empty(), "plan": plan(), "assess": assessment()}
    made["many"] = (many(200, 20), {})
    for name, (report, logs) in made.items():
        html = render_html(report, logs=logs, beside={*ALL_BESIDE, "logs"})
        (directory / f"{name}.html").write_text(html, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
