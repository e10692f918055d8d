"""A package whose script failed is told again, until it is installed well."""

from pathlib import Path

import pytest

from tasks.model import Outcome
from tasks.states import OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import RpmRepository

AGAIN: dict[Flavour, str] = {"dnf": "dnf -y reinstall", "zypper": "zypper -n install --force"}


def find_told(outcome: Outcome) -> list[str]:
    return [each.message for each in outcome.findings if each.check == "failed-scripts"]


@pytest.mark.public_report("https://bugzilla.suse.com/show_bug.cgi?id=1198139")
@pytest.mark.parametrize("script", ["post", "posttrans"])
@pytest.mark.parametrize("flavour", AGAIN)
def test_a_script_that_failed_is_told_until_it_succeeds(
    hosts: BootHosts, flavour: Flavour, script: str, tmp_path: Path
) -> None:
    (host,) = hosts(1, flavour)
    made = RpmRepository(tmp_path / "made")
    made.add("a-bad", "1.0")
    fails = f"%{script}\n[ ! -e /root/full ] || {{ echo 'no space left' >&2; exit 3; }}"
    made.add("a-bad", "2.0", scriptlets=fails, advisory="security")
    made.publish(host)
    made.install(host, "a-bad", "1.0")
    host.sh("touch /root/full", root=True)

    def patch(mask: str, host: LabHost = host) -> Outcome:
        return outcome_of(Fleet([host], tmp_path).patch(mask, reboot="Never"), host)

    first = patch("a-bad")
    assert result_of(first, "a-bad").state is UpdateState.SETUP_FAILED
    assert find_told(first) == []

    second = patch("nothing-has-this-name")
    (told,) = find_told(second)
    assert told.startswith("a-bad 2.0-1 is not set up since 20")
    assert f"%{script}(a-bad-2.0-1.noarch) scriptlet failed, exit status 3: no space left" in told
    assert second.state is OperationState.COMPLETED_WITH_WARNINGS

    host.sh(f"rm /root/full; {AGAIN[flavour]} a-bad", root=True)
    third = patch("nothing-has-this-name")
    assert find_told(third) == []
    assert third.state is OperationState.SUCCEEDED
