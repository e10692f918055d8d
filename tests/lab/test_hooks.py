"""Hooks before and after real machines: they run as root, once, around the installation, and fail closed."""

from collections.abc import Callable
from pathlib import Path

from tasks.domain.states import OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import LabHost

Boot = Callable[[int], list[LabHost]]

NOTE = (
    'printf "%s %s %s %s %s\\n" "$FLEETPATCH_PLACE" "$FLEETPATCH_MACHINE" "$(id -un)" '
    '"$(dpkg-query -W -f \'${Version}\' lab-plain)" "$FLEETPATCH_STATE" >> /var/lab-hooks; echo "it\'s noted"'
)


def command(name: str, target: str, **more: object) -> dict[str, object]:
    return {"name": name, "kind": "machine-command", "target": target, **more}


def test_each_machine_is_drained_and_undrained_once_and_one_whose_hook_fails_stays_untouched(
    hosts: Boot, tmp_path: Path
) -> None:
    """The failing one is of the first wave: the fleet goes on."""
    bad, good = hosts(2)
    fleet = Fleet([bad, good], tmp_path)
    target = f'test "$FLEETPATCH_MACHINE" != {bad.name} || {{ echo "still in use" >&2; exit 9; }}; {NOTE}'
    hooks = {"before_machine": [command("drain", target)], "after_machine": [command("undrain", NOTE)]}
    before = bad.dpkg_log()

    report = fleet.patch("lab-plain", hooks=hooks, waves={"size": 1, "failure_budget_count": 1})

    failed = outcome_of(report, bad)
    assert failed.state is OperationState.FAILED
    assert "exit code 9: still in use" in failed.reason
    assert result_of(failed, "lab-plain").state is UpdateState.NOT_ATTEMPTED
    assert bad.dpkg_log() == before
    assert bad.sh("cat /var/lab-hooks", root=True) == f"after_machine {bad.name} root 1.0 Failed\n"

    assert (failed.wave, outcome_of(report, good).wave) == (1, 2)
    assert outcome_of(report, good).state is OperationState.SUCCEEDED
    assert good.package_versions("lab-plain") == {"lab-plain": "2.0"}
    assert good.sh("cat /var/lab-hooks", root=True).splitlines() == [
        f"before_machine {good.name} root 1.0 ",
        f"after_machine {good.name} root 2.0 Succeeded",
    ]
    told = [(each.hook.name, each.succeeded, each.message) for each in report.hooks if each.subject == good.name]
    assert told == [("drain", True, "it's noted"), ("undrain", True, "it's noted")]


def test_a_hook_that_takes_too_long_is_ended_on_its_machine(hosts: Boot, tmp_path: Path) -> None:
    (host,) = hosts(1)
    target = "sleep 300 & echo $! > /run/lab-child; echo waiting; wait"
    hooks = {"before_machine": [command("drain", target, timeout_minutes=0.05)]}

    report = Fleet([host], tmp_path).patch("lab-plain", hooks=hooks)

    outcome = outcome_of(report, host)
    assert outcome.state is OperationState.FAILED
    assert "it was ended after" in outcome.reason
    assert "waiting" in outcome.reason
    assert host.sh('kill -0 "$(cat /run/lab-child)" 2>/dev/null && echo alive || echo gone', root=True) == "gone\n"
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}
