"""What contradicts itself in a configuration's waves, canaries and failure budget."""

from collections.abc import Iterator

from deployments.config.configuration import Configuration
from deployments.config.finding import Finding
from tasks.rules.calendar.overlaps import Severity
from tasks.rules.failure_budget import Tally, Verdict, too_many_failed
from tasks.rules.waves import canaries_of


def about_waves(one: Configuration) -> Iterator[Finding]:
    """Tell of keys of which one takes the effect from another, whatever machines there are."""
    waves = one.form.waves
    given = waves.model_fields_set
    if waves.go_on_after_failed_canary and not (waves.canary_count or waves.canary_percent):
        message = "`go_on_after_failed_canary` is on, but there are no canaries"
        yield _warning(one, message, "Give `canary_count` or `canary_percent`, or leave it out.")
    if waves.failure_budget_count is not None and "failure_budget_percent" in given:
        message = "`failure_budget_percent` has no effect, since `failure_budget_count` is given"
        yield _warning(one, message, "Leave one of the two out.")


def about_canaries(one: Configuration, machines: int) -> Iterator[Finding]:
    """Tell of canaries that spare no machine, or whose failure stops nothing, among so many machines."""
    policy = one.form.waves.policy()
    canaries = canaries_of(machines, policy)
    if not canaries:
        return
    if canaries >= machines > 1:
        message = f"all of its {machines} machines are canaries, so that they spare no other machine"
        yield _warning(one, message, "Make `canary_count` or `canary_percent` smaller.")
    elif canaries < machines:
        failed = {Verdict.FAILED: canaries}
        run, wave = Tally(machines, failed), Tally(canaries, failed)
        if not too_many_failed(policy.budget, run, wave, canary=True):
            them = "its canary fails" if canaries == 1 else f"all of its {canaries} canaries fail"
            message = f"when {them}, the run goes on with the other machines: canaries decide nothing"
            remedy = "Leave out `go_on_after_failed_canary`, or let fewer machines fail (`failure_budget_count`)."
            yield _warning(one, message, remedy)


def _warning(one: Configuration, message: str, remedy: str) -> Finding:
    return Finding(one.name, Severity.WARNS, "waves", message, remedy)
