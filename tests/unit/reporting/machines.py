"""Machines as they come out of a run: well, out of reach, broken, not back from a reboot."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from tasks.domain.model import (
    DurationPrediction,
    ErrorInfo,
    Finding,
    InstallResult,
    Outcome,
    RebootResult,
    StepRecord,
    TransactionResult,
    Update,
    UpdateResult,
)
from tasks.domain.states import (
    Classification,
    FindingLevel,
    OperationState,
    RebootState,
    Step,
    UpdateState,
)
from tests.support.builders import make_facts

RUN_ID = "20261120-0100-7f3a"

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


def usual(pending: tuple[Update, ...]) -> tuple[UpdateResult, ...]:
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
    at: datetime, lengths: Mapping[Step, float], failed: Step | None = None, why: str = ""
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
    told = usual(updates(pending))
    done = steps(at, lengths)
    begun = done[2].started_at
    names = tuple(r.update.id for r in told if r.state is UpdateState.INSTALLED)
    return Outcome(
        run_id=RUN_ID,
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
        prediction=DurationPrediction(20, 260, 90, 20, "3 earlier runs"),
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


def unreachable(machine: str, at: datetime, wave: int) -> Outcome:
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


def not_begun(machine: str, wave: int, reason: str) -> Outcome:
    told = tuple(
        left(r.update, UpdateState.NOT_ATTEMPTED, reason) if r.state is UpdateState.INSTALLED else r
        for r in usual(updates(14))
    )
    return Outcome(
        run_id=RUN_ID,
        machine=machine,
        state=OperationState.NOT_STARTED,
        reason=reason,
        updates=told,
        wave=wave,
        facts=make_facts(),
    )


def dpkg_failed(machine: str, at: datetime, wave: int) -> Outcome:
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
                "Repair the cause, then run: dpkg --configure -a",
            ),
        ),
        error=ErrorInfo("BrokenPackages", why, "Look at the log below; then run dpkg --configure -a on the machine."),
    )


def no_return(machine: str, at: datetime, wave: int) -> Outcome:
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


def warned(machine: str, at: datetime, wave: int) -> Outcome:
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
