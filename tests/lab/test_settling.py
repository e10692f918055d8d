"""A healthy machine is still healthy moments later, and still lets the run in. Otherwise no wave follows."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.domain.model import Outcome
from tasks.domain.states import FindingLevel, OperationState, Step
from tests.lab.engine import Fleet, Telling, outcome_of
from tests.lab.fleet import BootHosts, Flavour, LabHost

LISTEN = "/usr/bin/systemd-socket-activate -l 7001 /bin/cat"
WAIT = "until test -e /run/dying; do sleep 0.1; done"
# what each service does after an update that breaks it, and whether it is started again
LIVES = {
    "dies-at-once": ("exit 1", "no"),
    "dies-later": (f"{WAIT}; exit 1", "no"),
    "dies-once": (f"{WAIT}; mkdir /run/died && exit 1; exec sleep infinity", "always"),
    "loops": (f"{WAIT}; exit 1", "always"),
    "deaf": (f"{LISTEN} & {WAIT}; kill $!; exec sleep infinity", "no"),
    "good": ("exec sleep infinity", "always"),
}
UNIT = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c '{}'\nRestart={}\nRestartSec=100ms\n"
# as the units of init scripts: systemd knows no main process, and calls the service active when all have ended
FORKING = (
    "[Service]\nType=forking\nGuessMainPID=no\nRemainAfterExit=yes\n"
    f"ExecStart=/bin/sh -c '(test -e /run/broken || exec sleep infinity; {WAIT}) &'\n"
)
RESTART = f"touch /run/broken; systemctl restart lab-forks {' '.join(f'lab-{name}' for name in LIVES)}"
BROKEN = {
    "sudo": "mv /etc/sudoers.d /etc/sudoers.off",
    "pam": "sed -i.off '1i account required pam_deny.so' /etc/pam.d/sshd",
}

REFUSED = "the login worked before the update and is refused since: "


@dataclass
class Breaking(Telling):
    """Lets a host break when it was looked at the first time."""

    host: LabHost | None = None

    def on_step_finished(self, machine: str, step: Step, state: str, message: str) -> None:
        super().on_step_finished(machine, step, state, message)
        if step is Step.VALIDATE and self.host is not None:
            self.host.sh("touch /run/dying", root=True)


def add_services(root: Path) -> str:
    """Add the services, and one that loops before the run already. Return the command that starts them."""
    units = {
        name: UNIT.format(
            f"test -e /run/broken || exec {LISTEN if name == 'deaf' else 'sleep infinity'}; {life}", again
        )
        for name, (life, again) in LIVES.items()
    } | {"old": UNIT.format("sleep 1; exit 1", "always"), "forks": FORKING}
    for name, text in units.items():
        path = root / f"etc/systemd/system/lab-{name}.service"
        path.write_text(f"{text}[Install]\nWantedBy=multi-user.target\n")
    names = " ".join(f"lab-{name}" for name in units)
    return f"systemctl daemon-reload; systemctl enable -q {names}; systemctl start {names}; sleep 5"


def told(outcome: Outcome, level: FindingLevel) -> str:
    return "\n".join(finding.message for finding in outcome.findings if finding.level is level)


@pytest.mark.parametrize("flavour", ["apt", "dnf", "zypper"])
def test_what_breaks_after_the_update_fails_its_machine_and_opens_no_wave(
    hosts: BootHosts, tmp_path: Path, flavour: Flavour
) -> None:
    first, second = hosts(2, flavour)
    fleet = Fleet([first, second], tmp_path)
    first.sh(add_services(first.root), root=True)
    waves = {"canary_count": 1, "percent": 50}

    watch = Telling(on_install=lambda: first.sh(RESTART, root=True))
    report = fleet.patch("lab-plain", watch=watch, waves=waves, reboot="Never", settle_seconds=8, come_back_seconds=0)
    outcome, blocked = outcome_of(report, first), told(outcome_of(report, first), FindingLevel.BLOCK)
    assert outcome.state is OperationState.FAILED, outcome.reason
    assert "failed since patching: lab-dies-at-once.service" in blocked, blocked
    assert outcome_of(report, second).state is OperationState.NOT_STARTED
    assert "canary wave 1 failed" in outcome_of(report, second).reason

    # at the first look all is well
    again = RESTART.replace("touch", "rm -f")  # not the old one: a start by hand begins its count anew
    first.sh(f"{again}; systemctl disable -q --now lab-dies-at-once", root=True)
    later = RESTART.replace("lab-dies-at-once", "")
    watch = Breaking(on_install=lambda: first.sh(later, root=True), host=first)
    report = fleet.patch("lab-sec", watch=watch, waves=waves, reboot="Never", settle_seconds=20, come_back_seconds=0)
    outcome = outcome_of(report, first)
    blocked, remarks = told(outcome, FindingLevel.BLOCK), told(outcome, FindingLevel.REMARK)
    assert outcome.state is OperationState.FAILED, outcome.reason
    assert "failed since patching: lab-dies-later.service" in blocked, blocked
    assert "ended since patching, and was started again: lab-dies-once.service" in blocked, blocked
    assert "ends again and again since patching, and is started again: lab-loops.service" in blocked, blocked
    assert "nothing listens any more on tcp/7001" in blocked, blocked
    assert "nothing of it runs any more since patching: lab-forks.service" in blocked, blocked
    assert "ends again and again, as before the run: lab-old.service" in remarks, remarks
    assert "lab-good" not in f"{blocked}{remarks}"
    assert outcome_of(report, second).state is OperationState.NOT_STARTED
    assert [step for name, step, _ in watch.steps if name == first.name].count(Step.VALIDATE) == 2

    first.sh("systemctl disable -q --now 'lab-*'; systemctl reset-failed", root=True)
    watch = Telling(on_install=lambda: first.sh(BROKEN["sudo"], root=True))
    report = fleet.patch("lab-slow", watch=watch, waves={"percent": 50}, reboot="Never")
    assert outcome_of(report, first).state is OperationState.FAILED
    assert REFUSED in outcome_of(report, first).reason, outcome_of(report, first).reason
    assert outcome_of(report, second).state is OperationState.NOT_STARTED
    assert "refuses the login since its update" in outcome_of(report, second).reason

    other = tmp_path / "other"
    other.mkdir()
    watch = Telling(on_install=lambda: second.sh(BROKEN["pam"], root=True))
    outcome = outcome_of(Fleet([second], other).patch("lab-plain", watch=watch, reboot="Never"), second)
    assert outcome.state is OperationState.FAILED
    assert REFUSED in outcome.reason, outcome.reason
