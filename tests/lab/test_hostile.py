"""Machines that lie, flood, hang, lay traps or can't be used, beside a healthy machine that must still be patched.

Each costs only itself, so all of them are in one fleet and are patched in one run; each test asks what became of one.
A machine has several faults where none hides another: each machine costs a boot.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.domain.errors import FleetpatchError
from tasks.domain.model import Outcome, RunReport
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, Script
from tasks.domain.states import OperationState, UpdateState
from tasks.reports.writer import write_report
from tests.contract.manager_subjects import lab_transport
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import Lab, LabHost

BOUND_SECONDS = 420.0
"""A run with a machine that hangs: one read-only question may take 300 s, and waves begin when all were asked."""

NASTY = "\\033]0;pwned\\007\\033[2J<script>alert(1)</script><img src=x onerror=alert(1)>\\r[bold]../../etc/passwd\\n"
"""For printf on the machine: a title and a clearing of the screen, HTML, and a path."""

# the page has inputs of its own: what unfolds a table without a script
ACTIVE = {"script", "iframe", "object", "embed", "img", "link", "base", "form", "button", "audio", "video"}


class Page(HTMLParser):
    """Collects whatever in a page could act."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note elements and attributes that act."""
        if tag in ACTIVE:
            self.acts.append(tag)
        for name, value in attrs:
            target = (value or "").strip().lower()
            if name.startswith("on") or (name in {"href", "src"} and target.startswith(("javascript:", "data:", "//"))):
                self.acts.append(f"{tag}.{name}={value}")


def assert_harmless(report: RunReport, folder: Path) -> None:
    """Write a report, and look at every byte that a browser, a spreadsheet or a terminal would get."""
    files = write_report(report, folder)
    page = files["html"].read_text(encoding="utf-8")
    seen = Page()
    seen.feed(page)
    assert seen.acts == []
    assert len(page.encode()) < 1_000_000
    for path in files["directory"].rglob("*"):
        assert path.resolve().is_relative_to(folder.resolve())
        if path.suffix in {".html", ".csv", ".log", ".json"}:
            assert re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", path.read_text(encoding="utf-8")) == [], path
    json.loads(files["json"].read_text(encoding="utf-8"))


def wrap(host: LabHost, program: str, body: str) -> None:
    """Put a script before a program in root's PATH; ``$real`` is the program itself."""
    where = host.sh(f"command -v {program}", root=True).strip()
    text = f"#!/bin/sh\nreal={where}\n{body}\n"
    place = host.root / "usr/local/sbin" / program
    place.write_text(text)
    place.chmod(0o755)


ESCAPES = "escapes in uname and beside apt-get"
LIES = {
    # what its programs do -> whether it can be patched all the same
    ESCAPES: (
        {
            "uname": f"printf '{NASTY}'",
            "apt-get": f"printf '{NASTY}'; printf '{NASTY}' >&2; exec $real \"$@\"",
        },
        True,
    ),
    "a flood from df, and more in one line of dpkg-query than is read": (
        {
            "df": "head -c 3000000 /dev/zero | tr '\\0' x; exec $real \"$@\"",
            "dpkg-query": "head -c 1500000 /dev/zero | tr '\\0' '<'; echo; exec $real \"$@\"",
        },
        None,
    ),
    "nonsense from dpkg-query": ({"dpkg-query": "echo '{\"kind\": [1e999]}'"}, None),
    "apt-get that knows nothing": ({"apt-get": "echo '{}'; exit 0"}, None),
    "apt-get that says it did it": (
        {"apt-get": 'case "$*" in *-s*|*update*) exec $real "$@";; *) exit 0;; esac'},
        False,
    ),
}

TRAPS = {
    "a symlink": "mkdir -m 777 /tmp/theirs && ln -s /tmp/theirs /var/lib/fleetpatch",
    "open to everybody": "mkdir -p /var/lib/fleetpatch/jobs && chmod 777 /var/lib/fleetpatch /var/lib/fleetpatch/jobs",
    "somebody else's": "mkdir -p /var/lib/fleetpatch/jobs && chown -R nosudo: /var/lib/fleetpatch",
    "a file": "touch /var/lib/fleetpatch",
    "a link in it": "mkdir -m 777 /tmp/theirs; mkdir /var/lib/fleetpatch; ln -s /tmp/theirs /var/lib/fleetpatch/jobs",
}
TRAPPED = "a link in it"
"""The one of them that a machine of the fleet has: a job is begun in all of them below."""

FLOOD = f"head -c 200000 /dev/urandom; head -c 1500000 /dev/zero | tr '\\\\0' y; printf '{NASTY}'; "
PRINTS = r"""sed -i '1i echo "welcome {\"kind\": \"facts\"}"; echo oops >&2' ~/.bashrc"""
FLOODS = f'sed -i "1i {FLOOD}printf \\"@fleetpatch-0! 0\\\\n\\"" ~/.bashrc'
PATH_TRAP = (
    "mkdir -p ~/bin; for p in sh sudo apt-get dpkg base64 awk sed cat; do "
    "printf '#!/bin/sh\\ntouch /tmp/trapped\\nexit 0\\n' > ~/bin/$p; chmod +x ~/bin/$p; done; "
    "sed -i '1i export PATH=$HOME/bin:$PATH LD_PRELOAD=/nowhere.so BASH_ENV=/nowhere ENV=/nowhere' ~/.bashrc"
)
SAYS_MUCH, LEADS_ASTRAY = "prints and floods", "leads into a trap"
LOGINS = {SAYS_MUCH: f"{PRINTS}; {FLOODS}", LEADS_ASTRAY: PATH_TRAP}
"""What a login does before anybody can ask it for something; our own eye would stumble over it as well.

The login that says much is that of the machine with ESCAPES.
"""

OFF, OTHER_KEY, NO_SUDO, HEALTHY = "is off", "has another host key", "has no sudo", "is healthy"


@dataclass(frozen=True)
class Story:
    """One run over all of them, where each is to be found, and its version of lab-plain then, by the machine itself."""

    hosts: Mapping[str, LabHost]
    report: RunReport
    seconds: float
    place: Path
    versions: Mapping[str, str]

    def outcome(self, name: str) -> Outcome:
        """What the run says of one; what is said of its lab-plain is so."""
        outcome = outcome_of(self.report, self.hosts[name])
        for result in outcome.updates:
            if result.update.name == "lab-plain" and result.state is UpdateState.INSTALLED:
                assert self.versions[name] == "2.0"
        if outcome.state is not OperationState.SUCCEEDED:
            assert outcome.reason
        return outcome


@pytest.fixture(scope="module")
def story(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """All of them, patched once; what would mislead us as well is taken away afterwards."""
    names = (*LIES, TRAPPED, LEADS_ASTRAY, OFF, OTHER_KEY, NO_SUDO, HEALTHY)
    booted = lab.up(len(names))
    try:
        hosts = dict(zip(names, booted, strict=True))
        hosts[SAYS_MUCH] = hosts[ESCAPES]
        fleet = Fleet(booted, tmp_path_factory.mktemp("hostile"))
        _lay_traps(hosts)
        fleet.describe(**{hosts[NO_SUDO].name.replace("-", "_"): {"user": "nosudo"}})
        _pin_another_key(fleet, hosts[OTHER_KEY])

        report, seconds = patched(fleet)

        for name in LOGINS:
            bashrc = hosts[name].root / "home/patch/.bashrc"
            lines = bashrc.read_text().splitlines(keepends=True)
            bashrc.write_text("".join(lines[2 if name == SAYS_MUCH else 1 :]))
        for name in LIES:
            hosts[name].sh("rm -f /usr/local/sbin/*", root=True)
        installed = {name: host.package_versions("lab-plain") for name, host in hosts.items() if name != OFF}
        versions = {name: found["lab-plain"] for name, found in installed.items()}
        yield Story(hosts, report, seconds, fleet.place, versions)
    finally:
        for host in booted:
            host.drop()


def _lay_traps(hosts: Mapping[str, LabHost]) -> None:
    for name, (wrappers, _) in LIES.items():
        for program, body in wrappers.items():
            wrap(hosts[name], program, body)
    hosts[TRAPPED].sh(TRAPS[TRAPPED], root=True)
    for name, command in LOGINS.items():
        hosts[name].sh(command)
    hosts[OFF].off()


def _pin_another_key(fleet: Fleet, host: LabHost) -> None:
    """Let the inventory know another key of one host than the one it has."""
    keys = fleet.place / "known_hosts"
    lines = [line.split() for line in host.known_hosts.read_text().splitlines()]
    for words in lines:
        if words[0] == host.address:
            words[2] = words[2][:-6] + ("AAAAAA" if not words[2].endswith("AAAAAA") else "BBBBBB")
    kept = [words for words in lines if words[0] != host.address or words[1] == "ssh-ed25519"]
    keys.write_text("".join(f"{' '.join(words)}\n" for words in kept))
    fleet.inventory.write_text(fleet.inventory.read_text().replace(str(host.known_hosts), str(keys)))


def patched(fleet: Fleet) -> tuple[RunReport, float]:
    """Patch all side by side; a machine that fails must not stop another."""
    began = time.monotonic()
    report = fleet.patch("lab-plain", reboot="Never", waves={"failure_budget_count": len(fleet.hosts)})
    return report, time.monotonic() - began


def test_the_healthy_one_is_patched_and_the_report_of_all_is_harmless(story: Story) -> None:
    assert story.outcome(HEALTHY).state is OperationState.SUCCEEDED, story.outcome(HEALTHY).reason
    assert story.versions[HEALTHY] == "2.0"
    assert story.seconds < BOUND_SECONDS
    assert_harmless(story.report, story.place / "report")


@pytest.mark.parametrize("name", LIES)
def test_a_machine_whose_programs_lie_costs_only_itself(story: Story, name: str) -> None:
    _, succeeds = LIES[name]
    outcome = story.outcome(name)
    if succeeds is not None:
        assert (outcome.state is OperationState.SUCCEEDED) is succeeds, outcome.reason
    if succeeds is False:
        assert result_of(outcome, "lab-plain").state is UpdateState.FAILED
        assert story.versions[name] == "1.0"


def test_a_login_that_says_much_does_no_harm(story: Story) -> None:
    assert story.outcome(SAYS_MUCH).state is OperationState.SUCCEEDED, story.outcome(SAYS_MUCH).reason
    assert story.versions[SAYS_MUCH] == "2.0"


def test_a_path_that_leads_into_a_trap_is_not_followed(story: Story) -> None:
    assert story.outcome(LEADS_ASTRAY).state is OperationState.FAILED  # its sudo is none: nothing was asked as root
    assert story.versions[LEADS_ASTRAY] == "1.0"


def test_jobs_are_never_kept_where_others_may_write(story: Story) -> None:
    outcome = story.outcome(TRAPPED)
    assert outcome.state is OperationState.FAILED
    assert "/var/lib/fleetpatch" in outcome.reason
    assert story.versions[TRAPPED] == "1.0"
    host = story.hosts[TRAPPED]
    for number, (name, command) in enumerate(TRAPS.items()):
        host.sh(f"rm -rf /tmp/theirs /var/lib/fleetpatch; {command}", root=True)
        job = Job(f"job-{number}", Script("probe", {"command": "true", "timeout": "5"}))
        with pytest.raises(FleetpatchError, match="/var/lib/fleetpatch"):
            lab_transport(host).start_job(job, deadline=Deadline.after(SystemClock(), 240))
        assert host.sh("ls -A /tmp/theirs 2>/dev/null || true", root=True) == "", name


@pytest.mark.parametrize(
    ("name", "kind"), [(OFF, "Unreachable"), (OTHER_KEY, "HostKeyMismatch"), (NO_SUDO, "PrivilegeError")]
)
def test_a_machine_that_can_not_be_used_costs_only_itself_and_says_why(story: Story, name: str, kind: str) -> None:
    outcome = story.outcome(name)
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == kind
    if name == NO_SUDO:
        assert "nosudo" in outcome.error.hint
    if name != OFF:
        assert story.versions[name] == "1.0"


def test_a_machine_that_hangs_is_given_up(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run of its own: its deadline is sooner than that of others. Two that nothing was done to take part."""
    monkeypatch.setattr("tasks.steps.context.machine_context.READ_TIMEOUT_SECONDS", 60.0)
    bad, good = story.hosts[OTHER_KEY], story.hosts[NO_SUDO]
    wrap(bad, "df", "exec sleep 100000")

    report, seconds = patched(Fleet([bad, good], tmp_path))

    assert seconds < BOUND_SECONDS
    assert outcome_of(report, good).state is OperationState.SUCCEEDED, outcome_of(report, good).reason
    assert good.package_versions("lab-plain") == {"lab-plain": "2.0"}
    outcome = outcome_of(report, bad)
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "DeadlineExceeded", outcome.reason
    assert bad.package_versions("lab-plain") == {"lab-plain": "1.0"}
