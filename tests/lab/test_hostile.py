"""Machines that lie, flood, hang and lay traps, next to a healthy one: which is patched, and the report is harmless."""

import json
import re
import time
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.model import Outcome, RunReport
from tasks.reporting.writer import write_report
from tasks.states import OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import LabHost

Boot = Callable[[int], list[LabHost]]

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


def with_a_neighbour(hosts: Boot, place: Path) -> tuple[LabHost, LabHost, Fleet]:
    """Boot one host to be made hostile, and a healthy one."""
    bad, good = hosts(2)
    return bad, good, Fleet([bad, good], place)


def unlaid(host: LabHost) -> None:
    """Take the first line of the login's .bashrc away, from outside: our own eye would stumble over it as well."""
    bashrc = host.root / "home/patch/.bashrc"
    bashrc.write_text("".join(bashrc.read_text().splitlines(keepends=True)[1:]))


def patched(fleet: Fleet) -> tuple[RunReport, float]:
    """Patch both side by side; a machine that fails must not stop the other."""
    began = time.monotonic()
    report = fleet.patch("lab-plain", reboot="Never", waves={"failure_budget_count": 2})
    return report, time.monotonic() - began


def assert_healthy(report: RunReport, good: LabHost) -> None:
    outcome = outcome_of(report, good)
    assert outcome.state is OperationState.SUCCEEDED, outcome.reason
    assert good.package_versions("lab-plain") == {"lab-plain": "2.0"}


def assert_honest(outcome: Outcome, on_host: Mapping[str, str]) -> None:
    """What is said to be installed is, and what failed says why."""
    for result in outcome.updates:
        if result.update.name == "lab-plain" and result.state is UpdateState.INSTALLED:
            assert on_host["lab-plain"] == "2.0"
    if outcome.state is not OperationState.SUCCEEDED:
        assert outcome.reason


LIES = {
    # what its programs do -> whether it can be patched all the same
    "escapes in uname": ({"uname": f"printf '{NASTY}'"}, True),
    "escapes beside apt-get": ({"apt-get": f"printf '{NASTY}'; printf '{NASTY}' >&2; exec $real \"$@\""}, True),
    "a flood from df": ({"df": "head -c 20000000 /dev/zero | tr '\\0' x; exec $real \"$@\""}, None),
    "ten megabytes in one line of dpkg-query": (
        {"dpkg-query": "head -c 10000000 /dev/zero | tr '\\0' '<'; echo; exec $real \"$@\""},
        None,
    ),
    "nonsense from dpkg-query": ({"dpkg-query": "echo '{\"kind\": [1e999]}'"}, None),
    "apt-get that knows nothing": ({"apt-get": "echo '{}'; exit 0"}, None),
    "apt-get that says it did it": (
        {"apt-get": 'case "$*" in *-s*|*update*) exec $real "$@";; *) exit 0;; esac'},
        False,
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_machine_whose_programs_lie_costs_only_itself(hosts: Boot, tmp_path: Path, name: str) -> None:
    wrappers, succeeds = LIES[name]
    bad, good, fleet = with_a_neighbour(hosts, tmp_path)
    for program, body in wrappers.items():
        wrap(bad, program, body)

    report, seconds = patched(fleet)

    assert seconds < BOUND_SECONDS
    assert_healthy(report, good)
    bad.sh("rm -f /usr/local/sbin/*", root=True)
    outcome = outcome_of(report, bad)
    assert_honest(outcome, bad.package_versions("lab-plain"))
    if succeeds is not None:
        assert (outcome.state is OperationState.SUCCEEDED) is succeeds, outcome.reason
    if succeeds is False:
        assert result_of(outcome, "lab-plain").state is UpdateState.FAILED
        assert bad.package_versions("lab-plain") == {"lab-plain": "1.0"}
    assert_harmless(report, tmp_path / "report")


def test_a_machine_that_hangs_is_given_up(hosts: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.steps.context.machine_context.READ_TIMEOUT_SECONDS", 20.0)  # the same deadline, sooner
    bad, good, fleet = with_a_neighbour(hosts, tmp_path)
    wrap(bad, "df", "exec sleep 100000")

    report, seconds = patched(fleet)

    assert seconds < BOUND_SECONDS
    assert_healthy(report, good)
    outcome = outcome_of(report, bad)
    assert outcome.state is OperationState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "DeadlineExceeded", outcome.reason
    assert bad.package_versions("lab-plain") == {"lab-plain": "1.0"}


def test_a_login_that_floods_does_no_harm(hosts: Boot, tmp_path: Path) -> None:
    bad, good, fleet = with_a_neighbour(hosts, tmp_path)
    flood = f"head -c 5000000 /dev/urandom; head -c 30000000 /dev/zero | tr '\\\\0' y; printf '{NASTY}'; "
    bad.sh(f'sed -i "1i {flood}printf \\"@fleetpatch-0! 0\\\\n\\"" ~/.bashrc')

    report, seconds = patched(fleet)

    unlaid(bad)
    assert seconds < BOUND_SECONDS
    assert_healthy(report, good)
    assert_healthy(report, bad)
    assert_harmless(report, tmp_path / "report")


def test_a_path_that_leads_into_a_trap_is_not_followed(hosts: Boot, tmp_path: Path) -> None:
    bad, good, fleet = with_a_neighbour(hosts, tmp_path)
    bad.sh(
        "mkdir -p ~/bin; for p in sh sudo apt-get dpkg base64 awk sed cat; do "
        "printf '#!/bin/sh\\ntouch /tmp/trapped\\nexit 0\\n' > ~/bin/$p; chmod +x ~/bin/$p; done; "
        "sed -i '1i export PATH=$HOME/bin:$PATH LD_PRELOAD=/nowhere.so BASH_ENV=/nowhere ENV=/nowhere' ~/.bashrc"
    )

    report, _ = patched(fleet)

    unlaid(bad)
    assert_healthy(report, good)
    assert_honest(outcome_of(report, bad), bad.package_versions("lab-plain"))
    assert outcome_of(report, bad).state is OperationState.FAILED  # its sudo is none, so nothing could be asked as root
    assert bad.package_versions("lab-plain") == {"lab-plain": "1.0"}
    assert_harmless(report, tmp_path / "report")


TRAPS = {
    "a symlink": "mkdir -m 777 /tmp/theirs && ln -s /tmp/theirs /var/lib/fleetpatch",
    "open to everybody": "mkdir -p /var/lib/fleetpatch/jobs && chmod 777 /var/lib/fleetpatch /var/lib/fleetpatch/jobs",
    "somebody else's": "mkdir -p /var/lib/fleetpatch/jobs && chown -R nosudo: /var/lib/fleetpatch",
    "a file": "touch /var/lib/fleetpatch",
    "a link in it": "mkdir -m 777 /tmp/theirs; mkdir /var/lib/fleetpatch; ln -s /tmp/theirs /var/lib/fleetpatch/jobs",
}


@pytest.mark.parametrize("name", TRAPS)
def test_jobs_are_never_kept_where_others_may_write(hosts: Boot, tmp_path: Path, name: str) -> None:
    bad, good, fleet = with_a_neighbour(hosts, tmp_path)
    bad.sh(TRAPS[name], root=True)

    report, _ = patched(fleet)

    assert_healthy(report, good)
    outcome = outcome_of(report, bad)
    assert outcome.state is OperationState.FAILED
    assert "/var/lib/fleetpatch" in outcome.reason
    assert bad.package_versions("lab-plain") == {"lab-plain": "1.0"}
    assert bad.sh("ls -A /tmp/theirs 2>/dev/null || true", root=True) == ""
