"""Runs as they happen, for tests of the reports and for looking at them.

    python -m tests.unit.reporting.samples /tmp/reports

writes each of them as a page.
"""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.domain.model import (
    Assessment,
    DurationPrediction,
    ErrorInfo,
    Hook,
    HookResult,
    MachinePlan,
    PackageState,
    RebootNeed,
    RunInfo,
    RunReport,
    Wave,
    Window,
)
from tasks.domain.states import (
    HookKind,
    HookMode,
    HookPoint,
    OperationState,
    UpdateState,
    YesNoUnknown,
)
from tests.support.builders import make_facts
from tests.unit.reporting.machines import (
    LOG,
    dpkg_failed,
    good_outcome,
    left,
    no_return,
    not_begun,
    unreachable,
    updates,
    usual,
    warned,
)

START = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WINDOW = Window(START, START + timedelta(hours=2), "Europe/Berlin")


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
        "web-07": warned,
        "web-11": unreachable,
        "web-14": unreachable,
        "app-03": unreachable,
        "web-15": dpkg_failed,
        "app-05": dpkg_failed,
        "app-08": no_return,
        "app-09": warned,
    }
    halted = "wave 4 was not begun: 5 of 14 machines of wave 3 failed (36 %), more than the 20 % allowed"
    outcomes = []
    for wave in waves:
        for number, name in enumerate(wave.machines):
            if wave.number == 4:
                outcomes.append(not_begun(name, 4, halted))
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
    notes = ("approved by ada at 00:41 UTC: go ahead",)
    return RunReport(run, tuple(outcomes), waves, hooks=_hooks(names[:2]), notes=notes), logs


def _hooks(names: list[str]) -> tuple[HookResult, ...]:
    """A ticket before the run, and machines that are drained and undrained, one of them in vain."""
    ticket = Hook("open the ticket", HookPoint.BEFORE_RUN, HookKind.HTTP, "https://***@tickets.example/api")
    drain = Hook("drain", HookPoint.BEFORE_MACHINE, HookKind.MACHINE_COMMAND, "/usr/local/sbin/drain")
    undrain = replace(drain, name="undrain", place=HookPoint.AFTER_MACHINE, mode=HookMode.WARN)
    told = [HookResult(ticket, "run", succeeded=True, message="CHG-4711", started_at=START, ended_at=START + SECOND)]
    for name in names:
        until = START + timedelta(minutes=4)
        told.append(
            HookResult(drain, name, succeeded=True, message="drained", started_at=START, ended_at=START + SECOND)
        )
        failed = name == names[1]
        said = "exit code 1: the balancer does not answer" if failed else "back in the pool"
        told.append(HookResult(undrain, name, not failed, said, until, until + SECOND))
    return tuple(told)


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
        state = PackageState("apt", pending, RebootNeed(YesNoUnknown.NO))
        assessments.append(Assessment(name, START + timedelta(seconds=number), 4.2, facts, state))
        if name == "db-3":
            error = ErrorInfo(
                "Unreachable", "no answer at 10.20.3.9:22 within 10 s", "Is the machine up?", transient=True
            )
            assessments[-1] = Assessment(name, START, 10.0, error=error)
            continue
        told = usual(pending)
        kernel = any(r.update.requires_reboot and r.state is UpdateState.INSTALLED for r in told)
        plans.append(
            MachinePlan(
                machine=name,
                chosen=tuple(r.update for r in told if r.state is UpdateState.INSTALLED),
                skipped=tuple(r for r in told if r.state is not UpdateState.INSTALLED),
                prediction=DurationPrediction(
                    25, 150 + 30 * number, 95 if kernel else 0, 15, "3 earlier runs" if number % 2 else "defaults"
                ),
                reboot_expected=YesNoUnknown.YES if kernel else YesNoUnknown.NO,
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
        need = RebootNeed(YesNoUnknown.YES, ("linux-base",)) if number == 2 else RebootNeed(YesNoUnknown.NO)
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
            make = dpkg_failed if number % 37 == 5 else unreachable if number % 53 == 7 else None
            outcome = (
                good_outcome(name, at, wave.number, pending=pending) if make is None else make(name, at, wave.number)
            )
            outcomes.append(outcome)
    ended = max(o.ended_at for o in outcomes if o.ended_at)
    return RunReport(_run("patch", OperationState.FAILED, ended_at=ended), tuple(outcomes), waves)


def main(directory: Path) -> None:
    """Write every sample as a page."""
    from tasks.reports.html.renderer import render_html

    directory.mkdir(parents=True, exist_ok=True)
    made = {"three": three(), "forty": forty(), "empty": empty(), "plan": plan(), "assess": assessment()}
    made["many"] = (many(200, 20), {})
    for name, (report, logs) in made.items():
        html = render_html(report, logs=logs, sibling_formats={"csv", "parquet", "json", "logs"})
        (directory / f"{name}.html").write_text(html, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
