"""What apt_job.sh asks of apt-get when that fails or takes too long: a stand-in for apt-get notes how it is called."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.ci.tree import TOP

SCRIPTS = TOP / "tasks/scripts"
LOCKED = """#!/bin/sh
for word; do case $word in DPkg::Lock::Timeout=*) echo "$(date +%s) ${word#*=}" >>"$STAND_IN/tries" ;; esac; done
echo 'E: Could not get lock /var/cache/apt/archives/lock. It is held by process 1 (somebody)'
exit 100
"""
NEVER_DONE = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in *--download-only*) exec sleep 120 ;; esac
"""
DONE_LATE = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in *--download-only*) trap 'sleep 4; exit 0' TERM; sleep 120 & wait ;; esac
"""


def run(place: Path, apt_get: str, seconds: int, work: str = "install") -> list[dict[str, object]]:
    """Run a job of one transaction that may begin for so many seconds; return its records."""
    tools = place / "tools"
    tools.mkdir()
    for name, text in {"apt-get": apt_get, "dpkg": "#!/bin/sh\necho amd64\n", "dpkg-query": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    latest = str(int(time.time()) + seconds)
    params = {"work": work, "numbers": ["0"], "tx_0_packages": ["a=1"], "tx_0_latest_start": latest}
    token = base64.b64encode(json.dumps({**params, "lock_wait_seconds": "300"}, separators=(",", ":")).encode())
    script = f'exec 3>>"{place}/events" >>"{place}/log" 2>&1; . {SCRIPTS}/prelude.sh; . {SCRIPTS}/apt_job.sh'
    script = f'echo "$$ 1 boot 0" >"{place}/meta"; {script}'
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "FP_JOB_DIR": str(place), "FP_TOKEN": token.decode()}
    environment["STAND_IN"] = str(place)
    subprocess.run(["sh", "-c", script], env=environment, check=True, timeout=90, stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in (place / "events").read_text().splitlines()]


def test_no_try_for_a_lock_waits_past_the_latest_start(tmp_path: Path) -> None:
    latest = int(time.time()) + 8
    events = run(tmp_path, LOCKED, 8)
    tries = [[int(word) for word in line.split()] for line in (tmp_path / "tries").read_text().splitlines()]
    assert len(tries) > 1
    assert all(patience >= 0 and at + patience <= latest + 1 for at, patience in tries), tries
    assert [event["kind"] for event in events if event["kind"] != "progress"] == [
        "download_started",
        "transaction_ended",
        "finished",
    ]
    assert str(events[-2]["error"]).startswith("lock: ")


def test_nothing_is_unpacked_when_a_download_does_not_end(tmp_path: Path) -> None:
    events = run(tmp_path, NEVER_DONE, 3)
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["download"]
    assert "--no-download" not in (tmp_path / "calls").read_text()


def test_nothing_is_unpacked_when_a_download_ends_late_and_well(tmp_path: Path) -> None:
    events = run(tmp_path, DONE_LATE, 3)
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["download"]
    assert "--no-download" not in (tmp_path / "calls").read_text()


def test_a_stop_ends_a_download(tmp_path: Path) -> None:
    stopping = NEVER_DONE.replace("exec sleep 120", 'touch "$FP_JOB_DIR/stop"; exec sleep 120')
    events = run(tmp_path, stopping, 60)
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["stop"]


def test_a_stop_ends_the_wait_for_a_lock(tmp_path: Path) -> None:
    busy = LOCKED.replace(
        "echo 'E:",
        """case "$*" in *--download-only* | *--print-uris* | *" -s "* | "-s "*) exit 0 ;; esac
touch "$FP_JOB_DIR/stop"
echo 'E:""",
    )
    events = run(tmp_path, busy, 60)
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["stop"]
    assert not [event for event in events if event["kind"] == "transaction_ended"]
    waits = [int(line.split()[1]) for line in (tmp_path / "tries").read_text().splitlines()]
    assert waits[-1] <= 5  # apt itself would begin, whoever was asked to stop meanwhile


HERE = "'file:/srv/repo/./a.deb' a_1_all.deb 12"
DISC = "'cdrom:[disc]/pool/b.deb' b_1_all.deb 12"
AWAY = "'http://mirror.invalid/pool/c.deb' c_1_all.deb 12"


@pytest.mark.parametrize(
    ("missing", "may_download"),
    [([], False), ([HERE], True), ([HERE, DISC], True), ([HERE, AWAY], False), ([AWAY], False)],
)
def test_an_installation_downloads_nothing_and_finds_what_the_machine_itself_offers(
    tmp_path: Path, missing: list[str], may_download: bool
) -> None:
    lines = "".join(f'printf "%s\\n" "{line}"; ' for line in missing)
    told = f'#!/bin/sh\ncase "$*" in *--print-uris*) {lines}exit ;; esac\necho "$*" >>"$STAND_IN/calls"\n'
    run(tmp_path, told, 60)
    (last,) = [
        line
        for line in (tmp_path / "calls").read_text().splitlines()
        if "--download-only" not in line and " -s " not in line and not line.startswith("-s")
    ]
    assert ("--no-download" not in last) == may_download
