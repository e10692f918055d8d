"""What rpm_job.sh asks of yum 3, and what it makes of yum's words: a stand-in notes how it is called."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from tasks.machines.transport.script_library import load_script
from tests.contract.test_rpm_job_script import INSTALLED, REFUSED, TOOLS, calls, installed, kinds, run, says

# each kind of call has a file that is executed: simulate, download, renew, test, install, again
YUM = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in
  *"history list"*) kind=list ;; *"history info"*) kind=info ;; *"list available"*) kind=available ;;
  *--assumeno*) kind=simulate ;; *--downloadonly*) kind=download ;; *makecache*) kind=renew ;;
  *tsflags=test*) kind=test ;; *) kind=install ;;
esac
[ ! -e "$STAND_IN/locked-$kind" ] || {
  . "$STAND_IN/locked-$kind"
  echo 'Existing lock /var/run/yum.pid: another copy is running as pid 7.'
  echo 'Another app is currently holding the yum lock; exiting as configured by exit_on_lock'; exit 1
}
[ $kind != install ] || echo 'Running transaction (shutdown inhibited)'
[ ! -e "$STAND_IN/$kind" ] || . "$STAND_IN/$kind"
case $kind in
  simulate) echo 'Exiting on user command'; exit 1 ;;
  download) echo 'exiting because "Download Only" specified'; . "$STAND_IN/download.code" ;;
esac
"""
UPGRADE = """--> Running transaction check
---> Package a.noarch 0:1-1 will be updated
---> Package a.noarch 0:2-1 will be an update
"""
INSTALL = " -C install a-2-1.noarch"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "download.code").touch()
    monkeypatch.setitem(TOOLS, "yum", YUM)
    says(tmp_path, "simulate", UPGRADE)
    return tmp_path


def yum(place: Path, seconds: int = 60, **more: object) -> list[dict[str, object]]:
    return run(place, "yum", seconds, **more)


@pytest.mark.parametrize("code", [0, 1])
def test_exact_versions_are_downloaded_and_then_installed_without_the_network(place: Path, code: int) -> None:
    (place / "download.code").write_text(f"exit {code}\n")  # older versions end a download with 1
    events = yum(place)
    assert kinds(events) == INSTALLED
    assert (events[2]["exit_code"], events[2]["error"]) == (0, "")
    (download,) = calls(place, "--downloadonly")
    assert download.endswith(" --downloadonly install a-2-1.noarch")
    assert len(calls(place, INSTALL)) == 1
    assert all("--setopt=exit_on_lock=1" in call for call in calls(place, ""))


@pytest.mark.parametrize(
    ("more", "why", "detail"),
    [
        ("Package b.noarch 0:1-1 will be erased", "removals", "b"),
        ("Package b.noarch 0:1-1 will be obsoleted", "removals", "b"),
        (
            "Package b.noarch 1:1-1 will be updated\n---> Package b.noarch 1:2-1 will be an update",
            "unexpected",
            "b 1:1-1 -> 1:2-1",
        ),
        ("Package secret.noarch 0:1-1 will be installed", "excluded", "secret (mask s*t)"),
    ],
)
def test_what_must_not_happen_does_not(place: Path, more: str, why: str, detail: str) -> None:
    says(place, "simulate", f"{UPGRADE}---> {more}\n")
    events = yum(place, excluded=["s*t"])
    assert kinds(events) == REFUSED
    assert (events[1]["why"], events[1]["detail"]) == (why, detail)
    assert not calls(place, INSTALL)


def test_an_old_kernel_may_go(place: Path) -> None:
    more = "---> Package kernel.x86_64 0:3-1 will be installed\n---> Package kernel.x86_64 0:1-1 will be erased\n"
    says(place, "simulate", UPGRADE + more)
    assert kinds(yum(place)) == INSTALLED


def test_yum_installs_nothing_while_it_does_not_know_a_version(place: Path) -> None:
    says(place, "simulate", f"No package a-2-1.noarch available.\n{UPGRADE}")
    events = yum(place)
    assert (events[1]["kind"], events[1]["cause"]) == ("transaction_ended", "gone")
    assert not calls(place, INSTALL)


def test_a_saved_simulation_does_not_stay(place: Path) -> None:
    with tempfile.NamedTemporaryFile(prefix="yum_save_tx.", suffix=".yumtx", dir="/tmp", delete=False) as file:
        saved = Path(file.name)
    says(place, "simulate", f"{UPGRADE}Your transaction was saved, rerun it with:\n yum load-transaction {saved}\n")
    yum(place)
    assert not saved.exists()


def test_a_lock_is_waited_for_and_never_past_the_latest_start(place: Path) -> None:
    (place / "locked-download").touch()
    ended = yum(place, seconds=6)[-2]
    assert (ended["kind"], ended["cause"]) == ("transaction_ended", "lock")
    assert "another copy is running as pid 7" in str(ended["error"])
    assert len(calls(place, "--downloadonly")) > 1


def test_a_lock_that_goes_is_only_waited_for(place: Path) -> None:
    (place / "locked-install").write_text('rm "$STAND_IN/locked-install"\n')
    assert kinds(yum(place)) == INSTALLED
    assert len(calls(place, INSTALL)) == 2


def test_once_packages_change_yum_is_not_called_again(place: Path) -> None:
    text = "Another app is currently holding the yum lock, says a scriptlet\n"
    says(place, "install", text, end="exit 1")
    assert kinds(yum(place)) == INSTALLED
    assert len(calls(place, INSTALL)) == 1


@pytest.mark.parametrize(
    ("words", "cause", "told"),
    [
        ("Error: Package: a-2-1.noarch (base)\n           Requires: b >= 2\n", "refused", "Requires: b >= 2"),
        (
            "Transaction check error:\n  file /x from install of a-2-1 conflicts with file from package b-1\n",
            "refused",
            "file /x",
        ),
        ("Error in PREIN scriptlet in rpm package a-2-1.noarch\n", "maintainer-script", ""),
        ("Error downloading packages:\n  a-2-1.noarch: [Errno 256] No more mirrors to try.\n", "fetch", ""),
        ("Public key for a-2-1.noarch.rpm is not installed\n", "fetch", ""),
        (
            "  installing package a-2-1.noarch needs 30MB on the / filesystem\n"
            "Disk Requirements:\n  At least 30MB more space needed on the / filesystem.\n",
            "space",
            "30MB",
        ),
    ],
)
def test_the_cause_of_a_failure_is_told(place: Path, words: str, cause: str, told: str) -> None:
    warning = "There are unfinished transactions remaining. You might consider running yum-complete-transaction\n"
    says(place, "install", warning + words, end="exit 1")
    ended = yum(place)[-2]
    assert (ended["kind"], ended["cause"]) == ("transaction_ended", cause)
    assert told in str(ended["error"])


class TestUndo:
    def prepare(self, place: Path, command: str = "-y -d 2" + INSTALL, available: str = "a.noarch 1-1 base\n") -> None:
        says(
            place,
            "list",
            "ID     | Command line | Date and time | Action(s) | Altered\n    12 | x | y | Update | 1\n    11 | x\n",
        )
        says(place, "info", f"Transaction ID : 12\nReturn-Code    : Success\nCommand Line   : {command}\n")
        says(place, "available", f"Available Packages\n{available}")

    def test_the_history_says_how(self, place: Path) -> None:
        self.prepare(place)
        assert yum(place)[-2]["undo"] == "yum history undo 12"
        assert "history info 12" in calls(place, "history info")[0]

    def test_long_rows_are_read(self, place: Path) -> None:
        self.prepare(place, available="a.noarch\n             0:1-1\n       base\n")
        assert yum(place)[-2]["undo"] == "yum history undo 12"

    def test_what_no_repository_has_any_more_cannot_be_undone(self, place: Path) -> None:
        self.prepare(place, available="")
        assert "no enabled repository has a-1-1.noarch" in str(yum(place)[-2]["undo"])

    def test_a_transaction_of_somebody_else_is_not_to_be_undone(self, place: Path) -> None:
        self.prepare(place, command="install a-2-1.noarch")
        assert not yum(place)[-2].get("undo")


class TestStage:
    def test_what_the_installation_will_stumble_over_is_told_before_the_window(self, place: Path) -> None:
        says(
            place,
            "test",
            "Transaction check error:\n  file /x conflicts between attempted installs of a and b\n",
            "exit 1",
        )
        events = yum(place, work="stage")
        assert events[-2]["cause"] == "refused"
        (test,) = calls(place, "tsflags=test")
        assert " -C " in test
        assert not calls(place, INSTALL + "$")

    def test_a_lock_is_no_failure_of_what_is_downloaded(self, place: Path) -> None:
        (place / "locked-test").touch()
        assert yum(place, work="stage")[-2]["exit_code"] == 0


def test_what_an_interrupted_transaction_left_is_finished(place: Path) -> None:
    (place / "twice").write_text("5 a noarch a-1-1.noarch\n6 a noarch a-2-1.noarch\n")
    (place / "installed").write_text(installed("a"))
    events = yum(place, work="repair")
    assert events[-2]["exit_code"] == 0
    assert (place / "erased").read_text() == "a-1-1.noarch\n"
    assert calls(place, "reinstall") == [
        call for call in calls(place, "reinstall a-2-1.noarch") if re.search(r"--downloadonly|-C reinstall", call)
    ]
    assert len(calls(place, "reinstall")) == 2


def test_after_a_repair_yum_forgets_the_interrupted_transaction(tmp_path: Path) -> None:
    for name in ("transaction-all.1", "transaction-done.1", "transaction-all.0.disabled", "history"):
        (tmp_path / name).touch()
    (tmp_path / "rpm-twice").touch()
    (tmp_path / "transaction-all.2").touch()  # begun later
    os.utime(tmp_path / "transaction-all.2", (2**31, 2**31))
    text = load_script("package_tool", "tasks.machines.managers.rpm.yum").replace("/var/lib/yum", str(tmp_path))
    script = f'yum() {{ :; }}; FP_JOB_DIR="{tmp_path}"; {text}\ntool_install_again a'
    subprocess.run(["sh", "-c", script], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("history", "rpm-twice", "transaction-all.0.disabled", "transaction-all.1.disabled"),
        *("transaction-all.2", "transaction-done.1.disabled"),
    ]


def test_progress_is_read_without_epochs(place: Path) -> None:
    says(place, "install", "  Updating   : 1:a-2-1.noarch                          1/2 \n", end="sleep 1")
    yum(place)
    assert '"a"' in (place / "events").read_text()
