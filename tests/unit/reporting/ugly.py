"""Reports with texts as long as real ones get: names of cloud machines and of packages, lists of CVEs, errors."""

from collections.abc import Sequence
from dataclasses import replace

from tasks.domain.model import Finding, MachinePlan, Outcome, RunReport, Update, UpdateResult
from tasks.domain.states import FindingLevel
from tests.unit.reporting import samples

PACKAGE = "linux-headers-6.1.0-28-cloud-amd64-unsigned-with-a-suffix-of-a-vendor"
VERSION = "1:2.9.14+dfsg-1.3~deb12u4+vendor20261120.114501~g0123456789abcdef"
REASON = (
    "dpkg: error processing archive /var/cache/apt/archives/postgresql-15_15.14-0+deb12u1_amd64.deb (--unpack): trying "
    "to overwrite '/usr/share/doc/postgresql-15/copyright', which is also in package postgresql-15-vendor "
    "15.12-0+vendor~1; needs 6 min 40 s, but only 4 min 10 s are left before the reboot reserve of 15 min"
)
HINT = "Look at /var/log/apt/term.log, run `dpkg --configure -a`, and see https://wiki.example/patching/dpkg-conflicts."
CVES = tuple(f"CVE-2025-{38000 + n}" for n in range(80))


def host(name: str) -> str:
    """A machine's name as clouds give them."""
    return f"{name}-prod-eu-central-1b-autoscaled-0f3e9a7c.compute.internal.example.net"


def ugly(report: RunReport) -> RunReport:
    """Return a report with every text that can be long made long."""
    waves = tuple(replace(wave, machines=tuple(map(host, wave.machines))) for wave in report.waves)
    run = replace(
        report.run,
        scope="environment=production, role in (web, db, app), location!=fra1, name not like *-canary-*, tag="
        + "x" * 60,
        started_by="schedule production-thursday-after-patch-tuesday@controller-01.example.net",
        message=REASON if report.run.message else "",
    )
    return replace(
        report,
        run=run,
        waves=waves,
        outcomes=tuple(map(_outcome, report.outcomes)),
        plans=tuple(map(_plan, report.plans)),
        assessments=tuple(replace(each, machine=host(each.machine)) for each in report.assessments),
        hooks=tuple(
            replace(each, hook=replace(each.hook, name="open-the-change-request-in-the-ticket-system"), message=REASON)
            for each in report.hooks
        ),
        notes=(f"approved by ada@example.net at 00:41 UTC: {REASON}",),
    )


def _outcome(outcome: Outcome) -> Outcome:
    finding = Finding("probe https://status.internal.example.net/health", FindingLevel.BLOCK, REASON, HINT)
    error = replace(outcome.error, message=REASON, hint=HINT) if outcome.error else None
    install = outcome.install
    if install is not None:
        kept = tuple(f"/etc/{PACKAGE}/conf.d/{n}-local-settings.conf" for n in range(12))
        install = replace(install, kept_configuration_files=kept, unasked=(f"{PACKAGE} {VERSION} -> {VERSION}",))
    return replace(
        outcome,
        machine=host(outcome.machine),
        reason=REASON if outcome.state != "Succeeded" else outcome.reason,
        updates=_results(outcome.updates),
        steps=tuple(replace(step, message=REASON) for step in outcome.steps),
        findings=(*outcome.findings, finding),
        services_to_restart=tuple(f"systemd-service-with-a-long-name-{n}.service" for n in range(9)),
        install=install,
        error=error,
    )


def _plan(plan: MachinePlan) -> MachinePlan:
    updates = tuple(result.update for result in _results([UpdateResult(u, "Pending") for u in plan.chosen]))  # type: ignore[arg-type]
    notes = (*plan.notes, REASON)
    return replace(plan, machine=host(plan.machine), chosen=updates, skipped=_results(plan.skipped), notes=notes)


def _results(results: Sequence[UpdateResult]) -> tuple[UpdateResult, ...]:
    """Make every third package's name, version and CVEs long, and the reason of what was left."""
    made = []
    for number, result in enumerate(results):
        update: Update = result.update
        if number % 3 == 0:
            update = replace(update, name=f"{PACKAGE}-{number}", available=VERSION, cves=CVES)
        made.append(replace(result, update=update, reason=result.reason and f"{result.reason}: {REASON}"))
    return tuple(made)


def fleet_of_200() -> RunReport:
    """Two hundred machines, all with long texts."""
    return ugly(samples.many(200, 20))
