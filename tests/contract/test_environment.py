"""The environment of scripts: the same in a login and in a job, and nothing that a login happens to have."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, JobPhase, Script
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator, build_script_stdin
from tasks.machines.transport.script_library import load_script

CLOCK = SystemClock()
SHELLS = ("sh", "bash", "mksh", "busybox")
SHOW = "env | grep -vE '^(PWD|OLDPWD|SHLVL|_)=' | LC_ALL=C sort | fp_lines variable text"
FILE = """\
# a comment
export http_proxy="http://me:p'w@proxy.example:3128"  # of the site
https_proxy=http://file.example:1
  no_proxy='localhost,10.0.0.0/8'
QUIET=yes
LANG=de_DE.UTF-8
PATH=/nowhere
IFS=x
bad-name=1
EVIL=$(touch /tmp/evil)`id`
no value
"""
LOGIN = {
    "HTTPS_PROXY": "http://login.example:2",
    "https_proxy": "http://login.example:2",
    "SUDO_USER": "me",
    "APT_CONFIG": "/home/me/apt.conf",
    "TWO_LINES": "a\nFORGED=1",
    "not-a-name": "1",
}
EXPECTED = {
    "http_proxy": "http://me:p'w@proxy.example:3128",
    "https_proxy": "http://login.example:2",
    "HTTPS_PROXY": "http://login.example:2",
    "no_proxy": "localhost,10.0.0.0/8",
    "QUIET": "yes",
    "EVIL": "$(touch /tmp/evil)`id`",
    "LANG": "C",
    "LC_ALL": "C",
    "TERM": "dumb",
    "HOME": "/root",
}


def variables(records: list[str]) -> dict[str, str]:
    found = dict(line.partition("=")[::2] for line in records)
    found.pop("not-a-name", None)  # no shell can remove it, and some hand it on
    assert found.pop("PATH").endswith("/usr/sbin:/usr/bin:/sbin:/bin")
    return found


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_has_the_machines_variables_and_the_logins_proxies(tmp_path: Path, name: str) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"{name} is not there: deployments/bootstrap/packages.sh shells installs it")
    (tmp_path / "environment").write_text(FILE)
    nonce = generate_nonce()
    script = build_script_stdin(SHOW, {}, nonce).replace(b"/etc/environment", bytes(tmp_path / "environment"))
    words = [shell, "sh"] if name == "busybox" else [shell]
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", **LOGIN}
    done = subprocess.run([*words, "-s"], input=script, capture_output=True, env=environment, check=False)
    decoder = ScriptOutputDecoder(nonce)
    decoder.feed_stdout(done.stdout)
    found = variables([str(record["text"]).replace("***@", "me:p'w@") for record in decoder.build_output().records])
    assert found == EXPECTED


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PosixShell:
    """This machine, by a login with proxies, and with another /etc/environment."""
    (tmp_path / "environment").write_text(FILE)

    def load(name: str, package: str = "tasks.machines.scripts.posix") -> str:
        return SHOW if name == "show" else load_script(name, package)

    monkeypatch.setattr(
        "tasks.machines.transport.local_channel.build_child_environment", lambda _: {**os.environ, **LOGIN}
    )
    environment = load_script("environment").replace(
        "/etc/environment", shlex.quote(str(tmp_path / "environment")).strip("'")
    )
    real = load_script
    monkeypatch.setattr(
        "tasks.machines.transport.posix_shell.load_script",
        lambda name, *more: environment if name == "environment" else real(name, *more),
    )
    return PosixShell(
        LocalShellChannel(CLOCK),
        machine="m",
        privilege=PrivilegeEscalator(PrivilegeMethod.NONE),
        clock=CLOCK,
        job_root=str(tmp_path / "jobs"),
        script_loader=load,
    )


def test_a_job_has_the_environment_of_the_login_that_started_it(loaded: PosixShell, tmp_path: Path) -> None:
    deadline = Deadline.after(CLOCK, 60)
    asked = loaded.run_script(Script("show"), deadline=deadline).records
    loaded.start_job(Job("j1", Script("show")), deadline=deadline)
    while (seen := loaded.poll_job("j1", deadline=deadline)).phase is JobPhase.RUNNING:
        CLOCK.sleep(0.1)
    assert seen.exit_code == 0
    ours, theirs = (variables([str(record["text"]) for record in records]) for records in (asked, seen.events))
    assert theirs == ours
    assert ours["https_proxy"] == LOGIN["https_proxy"]
    assert ours["QUIET"] == "yes"
    assert "SUDO_USER" not in ours
    assert not (tmp_path / "jobs/j1/environment").exists()  # a proxy may have a password in it
