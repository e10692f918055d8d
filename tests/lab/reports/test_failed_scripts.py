"""Each assessment names a package whose script failed, until the package is installed well."""

from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import RpmRepository

AGAIN: dict[Flavour, str] = {"dnf": "dnf -y reinstall", "zypper": "zypper -n install --force"}
SAID: dict[Flavour, str] = {"dnf": ", after it said: ", "zypper": ": "}
DNF_MAIN = "/usr/lib/python3/dist-packages/dnf/cli/main.py"
UNPACKING: dict[Flavour, str] = {
    "dnf": "failed: Error unpacking rpm package lab-plain-2.0-1.noarch",
    "zypper": "cpio: File from package already exists as a directory in system",
}
SCRIPTS = {"a-post": "post", "a-posttrans": "posttrans"}


def find_told(outcome: Outcome) -> list[str]:
    return [each.message for each in outcome.findings if each.check == "failed-scripts"]


@pytest.mark.public_report("https://bugzilla.suse.com/show_bug.cgi?id=1198139")
@pytest.mark.parametrize("flavour", AGAIN)
def test_a_script_that_failed_is_told_until_it_succeeds(hosts: BootHosts, flavour: Flavour, tmp_path: Path) -> None:
    (host,) = hosts(1, flavour)
    made = RpmRepository(tmp_path / "made")
    for name, script in (*SCRIPTS.items(), ("a-good", "")):
        fails = f"%{script}\n[ ! -e /root/full ] || {{ echo 'no space left' >&2; exit 3; }}" if script else ""
        made.add(name, "1.0")
        made.add(name, "2.0", scriptlets=fails, advisory="security")
    made.publish(host)
    host.sh("rpm -U /srv/made/noarch/*-1.0-1.noarch.rpm; touch /root/full", root=True)

    def patch(mask: str, host: LabHost = host) -> Outcome:
        return outcome_of(Fleet([host], tmp_path).patch(mask, reboot="Never"), host)

    first = patch("a-*")
    assert first.state is OperationState.COMPLETED_WITH_WARNINGS
    assert (result_of(first, "a-good").state, result_of(first, "a-good").reason) == (UpdateState.INSTALLED, "")
    for name, script in SCRIPTS.items():
        result = result_of(first, name)
        assert result.state is UpdateState.SETUP_FAILED
        failure = f"%{script}({name}-2.0-1.noarch) scriptlet failed, exit status 3"
        assert f"{failure}{SAID[flavour]}no space left" in result.reason
    assert host.package_versions(*SCRIPTS) == dict.fromkeys(SCRIPTS, "2.0-1")
    assert find_told(first) == []

    second = patch("nothing-has-this-name")
    (told,) = find_told(second)
    for name, script in SCRIPTS.items():
        assert f"{name} 2.0-1 is not set up since 20" in told
        assert f"%{script}({name}-2.0-1.noarch) scriptlet failed, exit status 3: no space left" in told
    assert second.state is OperationState.COMPLETED_WITH_WARNINGS

    host.sh(f"rm /root/full; {AGAIN[flavour]} {' '.join(SCRIPTS)}", root=True)
    third = patch("nothing-has-this-name")
    assert find_told(third) == []
    assert third.state is OperationState.SUCCEEDED

    # a file that rpm can't unpack; of the last package, dnf does not print rpm's own words
    host.sh("rm /usr/share/lab/lab-plain; mkdir -p /usr/share/lab/lab-plain/in-the-way", root=True)
    reason = result_of(patch("lab-plain"), "lab-plain").reason
    assert UNPACKING[flavour] in reason
    if flavour == "dnf":
        host.sh(f"sed -i 's/^import logging$/import logging, no_such_module/' {DNF_MAIN}", root=True)
        assert "ModuleNotFoundError: No module named 'no_such_module'" in patch("lab-plain").reason
