"""Another process has the package manager's lock: a run waits as long as the window allows, and says for whom."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.domain.states import OperationState, Step
from tests.lab.engine import Fleet, Telling, outcome_of
from tests.lab.fleet import BootHosts, Flavour

SECONDS = 25
LOCKS: dict[Flavour, str] = {
    "apt": "/var/lib/dpkg/lock-frontend",
    "dnf": "/var/lib/rpm/.rpm.lock",
    "zypper": "/var/lib/rpm/.rpm.lock",
}
HOLD = (
    "use Fcntl; open(my $f, '+>>', '{path}') or die; my $whole = pack('s s x32', F_WRLCK, 0); "
    "fcntl($f, F_SETLKW, $whole) or die; "
    "open(my $g, '>', '/run/lab-held'); sleep {seconds}"
)


@dataclass
class Listening(Telling):
    """Remembers the messages of the installation."""

    messages: list[str] = field(default_factory=list)

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Remember it."""
        if step in {Step.PRECHECK, Step.INSTALL}:
            self.messages.append(message)
        super().on_progress(machine, step, fraction, message)


@pytest.mark.parametrize("flavour", LOCKS)
def test_a_lock_is_waited_for_and_the_wait_is_told(hosts: BootHosts, tmp_path: Path, flavour: Flavour) -> None:
    (host,) = hosts(1, flavour)
    hold = HOLD.format(path=LOCKS[flavour], seconds=SECONDS)
    host.sh(f"cat > /root/hold.pl <<'END'\n{hold}\nEND", root=True)
    host.sh("systemd-run -q perl /root/hold.pl; until [ -e /run/lab-held ]; do sleep 0.1; done", root=True, timeout=20)
    watch = Listening()
    fleet = Fleet([host], tmp_path)
    outcome = outcome_of(fleet.patch("lab-plain", watch=watch, reboot="Never"), host)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    told = [each for each in watch.messages if each.startswith("waiting")]
    assert told
    assert "as long as the window allows" in told[0] or "packages were being changed by" in told[0]
