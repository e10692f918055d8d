"""Checks for contradictions between waves, canaries and failure budget of a configuration."""

from collections.abc import Iterator

from deployments.checks.finding import ConfigurationFinding
from deployments.configuration.model import Configuration
from tasks.rules.calendar.checks import FindingSeverity
from tasks.rules.runs.failure_budget import OutcomeClass, OutcomeTally, check_failures
from tasks.rules.runs.waves import count_canaries


def check_waves(configuration: Configuration) -> Iterator[ConfigurationFinding]:
    """Yield findings for keys that have no effect because of another key. The number of machines does not matter."""
    waves = configuration.form.waves
    given = waves.model_fields_set
    if waves.go_on_after_failed_canary and not (waves.canary_count or waves.canary_percent):
        message = "`go_on_after_failed_canary` is on, but there are no canaries"
        yield _build_warning(configuration, message, "Give `canary_count` or `canary_percent`, or leave it out.")
    if waves.failure_budget_count is not None and "failure_budget_percent" in given:
        message = "`failure_budget_percent` has no effect, because `failure_budget_count` is given"
        yield _build_warning(configuration, message, "Leave one of the two out.")


def check_canaries(configuration: Configuration, machine_count: int) -> Iterator[ConfigurationFinding]:
    """Yield findings for canaries that protect no machine, or that can't stop the run, for this number of machines."""
    policy = configuration.form.waves.to_wave_policy()
    canaries = count_canaries(machine_count, policy)
    if not canaries:
        return
    if canaries >= machine_count > 1:
        message = f"all of its {machine_count} machines are canaries: they protect no other machine"
        yield _build_warning(configuration, message, "Make `canary_count` or `canary_percent` smaller.")
    elif canaries < machine_count:
        failed = {OutcomeClass.FAILED: canaries}
        run, wave = OutcomeTally(machine_count, failed), OutcomeTally(canaries, failed)
        if not check_failures(policy.budget, run, wave, canary=True):
            failed_canaries = "its canary fails" if canaries == 1 else f"all of its {canaries} canaries fail"
            message = f"when {failed_canaries}, the run continues with the other machines: canaries have no effect"
            remedy = "Leave out `go_on_after_failed_canary`, or let fewer machines fail (`failure_budget_count`)."
            yield _build_warning(configuration, message, remedy)


def _build_warning(configuration: Configuration, message: str, remedy: str) -> ConfigurationFinding:
    return ConfigurationFinding(configuration.name, FindingSeverity.WARNS, "waves", message, remedy)
