"""What rpm_job.sh asks of dnf when it fails, waits or takes too long: stand-ins note how they are called."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.protocols.transport import Script
from tasks.machines.transport.script_library import compose_script, load_script
from tests.contract.jumping_clock import put_jumping_clock

# "rpm -q …" prints what is installed, from the file "installed"; the script needs nothing else of rpm
RPM = r"""#!/bin/sh
case "$*" in
  *%{_arch}*) echo "x86_64:$STAND_IN/rpmdb" ;;
  -qa*INSTALLTIME*' %{NAME} '*) cat "$STAND_IN/twice" 2>/dev/null ;;
  "-q gone"*) [ -e "$STAND_IN/unreadable" ] || echo "package $2 is not installed"; exit 1 ;;
  "-K "*) echo "$*" >>"$STAND_IN/read"; [ ! -e "$STAND_IN/damaged" ]; exit ;;
  -q*) cat "$STAND_IN/installed" ;;
  "-e --test "*) [ ! -e "$STAND_IN/needed" ] || . "$STAND_IN/needed" ;;
  -e*) shift; echo "$*" >>"$STAND_IN/erased"; rm -f "$STAND_IN/twice"; [ ! -e "$STAND_IN/stuck" ] ;;
esac
exit 0
"""
# each kind of call has a file that is executed: simulate, download, renew, test, install, again
DNF = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in
  "history "*) kind=history ;; "-q -C repoquery "*) kind=repoquery ;; *--assumeno*) kind=simulate ;;
  *--downloadonly*) kind=download ;; *makecache*) kind=renew ;; *tsflags=test*) kind=test ;;
  *) kind=install ;;
esac
[ ! -e "$STAND_IN/locked-$kind" ] || { . "$STAND_IN/locked-$kind"; echo 'RPMDB already locked by 7'; exit 200; }
[ $kind != install ] || [ ! -e "$STAND_IN/before-install" ] || . "$STAND_IN/before-install"
[ $kind != install ] || echo 'Running transaction'
[ ! -e "$STAND_IN/$kind" ] || . "$STAND_IN/$kind"
[ $kind != simulate ] || { echo 'Operation aborted.'; exit 1; }
"""
ZYPPER = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in
  *--xmlout*) kind=simulate ;; *--dry-run*) kind=test ;; *--download-only*) kind=download ;;
  *refresh) kind=renew ;; *) kind=install ;;
esac
[ ! -e "$STAND_IN/$kind" ] || . "$STAND_IN/$kind"
"""
TOOLS = {"dnf": DNF, "zypper": ZYPPER}
NOTHING: Mapping[str, object] = {}
OTHER = "Package b.noarch 1-1 will be upgraded\n---> Package b.noarch 2-1 will be an upgrade"
DOWNGRADE = "Package a.noarch 3-1 will be downgraded\n---> Package a.noarch 2-1 will be a downgrade"
UPGRADE = "---> Package a.noarch 1-1 will be upgraded\n---> Package a.noarch 2-1 will be an upgrade\n"


def installed(*names: str) -> str:
    return "".join(f"{name}\\t0\\t1\\t1\\tnoarch\\t5\\tsomebody\\n" for name in names).encode().decode("unicode_escape")


def run(place: Path, tool: str = "dnf", seconds: int = 60, **more: object) -> list[dict[str, object]]:
    """Run a job of one transaction with the package "a", which may begin for so many seconds; return its records."""
    folder = place / "tools"
    folder.mkdir()
    (place / "rpmdb").mkdir(exist_ok=True)
    for name, text in {"rpm": RPM, tool: TOOLS[tool]}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    if not (place / "installed").exists():
        (place / "installed").write_text(installed("a"))
    if tool == "dnf" and not (place / "simulate").exists():
        says(place, "simulate", UPGRADE)
    params: dict[str, object] = {"work": "install", "numbers": ["0"], "allowed": []}
    params |= {"tx_0_packages": ["a-2-1.noarch"], "tx_0_names": ["a"], "tx_0_present": ["a"]}
    params |= {"tx_0_latest_start": str(int(time.time()) + seconds), **more}
    token = base64.b64encode(json.dumps(params, separators=(",", ":")).encode())
    job = compose_script(Script("rpm_job", package=f"tasks.machines.managers.rpm.{tool}"))
    lines = [f'echo "$$ 1 boot 0" >"{place}/meta"', f'exec 3>>"{place}/events" >>"{place}/log" 2>&1']
    (place / "script").write_text("\n".join([*lines, load_script("prelude"), job]))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "FP_JOB_DIR": str(place), "FP_TOKEN": token.decode()}
    environment["STAND_IN"] = str(place)
    subprocess.run(["sh", place / "script"], env=environment, check=True, timeout=90, stdin=subprocess.DEVNULL)
    events = [json.loads(line) for line in (place / "events").read_text().splitlines()]
    return [event for event in events if event["kind"] != "progress"]


def says(place: Path, kind: str, text: str, end: str = "") -> None:
    """Let the stand-in print a text when it is called so, and then do something."""
    (place / f"{kind}.txt").write_text(text)
    (place / kind).write_text(f'cat "$STAND_IN/{kind}.txt"\n{end}\n')


def put_downloaded(place: Path) -> None:
    """Let the package "a" be downloaded already, as dnf's simulation and its cache tell."""
    says(place, "simulate", f"cachedir: {place}/cache\n{UPGRADE}")
    folder = place / "cache/lab/packages"
    folder.mkdir(parents=True)
    (folder / "a-2-1.noarch.rpm").write_text("package")
    (place / "rpmdb").mkdir()
    (place / "rpmdb" / "rpmdb.sqlite").write_text("packages")


def kinds(events: list[dict[str, object]]) -> list[object]:
    return [event["kind"] for event in events if event["kind"] != "waiting"]


def calls(place: Path, word: str) -> list[str]:
    return [line for line in (place / "calls").read_text().splitlines() if word in line]


INSTALLED = ["download_started", "transaction_started", "transaction_ended", "finished"]
REFUSED = ["download_started", "not_attempted", "finished"]


class TestWhatIsInstalled:
    @pytest.mark.parametrize(
        ("meanwhile", "simulations"), [("", 1), ('echo another >>"$STAND_IN/rpmdb/rpmdb.sqlite"', 2)]
    )
    def test_a_simulation_is_repeated_if_packages_were_changed(
        self, tmp_path: Path, meanwhile: str, simulations: int
    ) -> None:
        says(tmp_path, "download", "", meanwhile)
        (tmp_path / "rpmdb").mkdir()
        (tmp_path / "rpmdb" / "rpmdb.sqlite").write_text("packages\n")
        assert kinds(run(tmp_path)) == INSTALLED
        assert len(calls(tmp_path, "--assumeno")) == simulations

    @pytest.mark.parametrize("state", ["whole", "damaged", "absent"])
    def test_what_is_here_and_whole_is_not_downloaded_again(self, tmp_path: Path, state: str) -> None:
        put_downloaded(tmp_path)
        if state == "damaged":
            (tmp_path / "damaged").touch()
        if state == "absent":
            (tmp_path / "cache/lab/packages/a-2-1.noarch.rpm").unlink()
        assert kinds(run(tmp_path)) == INSTALLED
        assert len(calls(tmp_path, "--downloadonly")) == (state != "whole")
        assert (tmp_path / "read").exists() == (state != "absent")

    def test_whole_files_that_are_others_than_the_repositorys_are_downloaded(self, tmp_path: Path) -> None:
        put_downloaded(tmp_path)
        lacking = "Error: Error downloading packages: a-2-1.noarch: Cannot download, all mirrors were already tried"
        once = f"""[ -e "$STAND_IN/again" ] || {{ : >"$STAND_IN/again"; echo '{lacking}'; exit 1; }}"""
        (tmp_path / "before-install").write_text(once)
        events = run(tmp_path)
        assert kinds(events) == INSTALLED
        assert events[2]["exit_code"] == 0
        words = [
            next(w for w in ("--downloadonly", "--comment=", "--assumeno") if w in line)
            for line in calls(tmp_path, "install")
        ]
        assert words == ["--assumeno", "--comment=", "--downloadonly", "--comment="]

    def test_exact_versions_are_downloaded_and_then_installed_without_the_network(self, tmp_path: Path) -> None:
        events = run(tmp_path)
        assert kinds(events) == INSTALLED
        assert (events[2]["exit_code"], events[2]["error"]) == (0, "")
        (download,) = calls(tmp_path, "--downloadonly")
        (install,) = calls(tmp_path, "--comment=")
        assert download.endswith(" install a-2-1.noarch")
        assert " -C " in install
        for simulation in calls(tmp_path, "--assumeno"):
            assert "-y" not in simulation.split(), "dnf would install instead"
            assert "assumeno=" not in simulation
        for call in (download, install):  # whatever the machine's dnf.conf says, and whichever repository is away
            assert "-d 2 " in call
            assert "*.skip_if_unavailable=True" in call
        assert install.endswith(" install a-2-1.noarch")

    def test_a_new_package_that_comes_by_itself_is_not_named(self, tmp_path: Path) -> None:
        says(tmp_path, "simulate", UPGRADE + "---> Package new.noarch 1-1 will be installed\n")
        both: dict[str, Any] = {"tx_0_packages": ["a-2-1.noarch", "new-1-1.noarch"], "tx_0_names": ["a", "new"]}
        run(tmp_path, **both)
        assert calls(tmp_path, "--comment=")[0].endswith(" install a-2-1.noarch")

    def test_a_new_package_that_does_not_is_named(self, tmp_path: Path) -> None:
        both: dict[str, Any] = {"tx_0_packages": ["a-2-1.noarch", "new-1-1.noarch"], "tx_0_names": ["a", "new"]}
        run(tmp_path, **both)
        assert calls(tmp_path, "--comment=")[0].endswith(" install a-2-1.noarch new-1-1.noarch")

    def test_progress_is_told_at_once_and_after_a_long_silence(self, tmp_path: Path) -> None:
        waits = 'for _ in $(seq 600); do ! grep -q {} "$STAND_IN/events" || break; sleep 0.1; done'
        line = "  {:<17}: a-2-1.noarch  {}/2"
        says(
            tmp_path,
            "install",
            line.format("Upgrading", 1) + "\n",
            end=f"{waits.format('Upgrading')}; sleep 4; echo '{line.format('Cleanup', 2)}'; {waits.format('Cleanup')}",
        )
        assert kinds(run(tmp_path)) == INSTALLED
        told = [json.loads(each) for each in (tmp_path / "events").read_text().splitlines() if '"progress"' in each]
        assert [(each["percent"], each["update"], each["action"]) for each in told] == [
            (39.0, "a", "Upgrading"),
            (77.0, "a", "Cleanup"),
        ]


class TestLook:
    @pytest.mark.parametrize(
        ("more", "why", "detail"),
        [
            ("Package b.noarch 1-1 will be erased", "removals", "b"),
            ("Package b.noarch 1-1 will be obsoleted", "removals", "b"),
            (OTHER, "unexpected", "b 1-1 -> 2-1"),
            (DOWNGRADE, "unexpected", "a 3-1 -> 2-1"),
            ("Package secret.noarch 1-1 will be installed", "excluded", "secret (mask s*t)"),
            ("Package libsecret.i686 1-1 will be installed", "excluded", "libsecret.i686 (mask lib*)"),
        ],
    )
    def test_what_must_not_happen_does_not(self, tmp_path: Path, more: str, why: str, detail: str) -> None:
        first = "" if more is DOWNGRADE else UPGRADE
        says(tmp_path, "simulate", f"{first}---> {more}\n")
        events = run(tmp_path, excluded=["s*t", "lib*"])
        assert kinds(events) == REFUSED
        assert (events[1]["why"], events[1]["detail"]) == (why, detail)
        assert not calls(tmp_path, "--comment=")

    @pytest.mark.parametrize(
        "more",
        [
            OTHER,  # allowed
            "Package kernel-core.x86_64 3-1 will be installed\n---> Package kernel-core.x86_64 1-1 will be erased",
            "Package new.noarch 1-1 will be installed",
        ],
    )
    def test_what_may_happen_does(self, tmp_path: Path, more: str) -> None:
        says(tmp_path, "simulate", f"{UPGRADE}---> {more}\n")
        assert kinds(run(tmp_path, allowed=["b"], excluded=["s*t"])) == INSTALLED

    def test_removals_that_are_allowed_happen(self, tmp_path: Path) -> None:
        says(tmp_path, "simulate", f"{UPGRADE}---> Package b.noarch 1-1 will be erased\n")
        assert kinds(run(tmp_path, allow_removals="yes")) == INSTALLED

    def test_what_somebody_removed_is_not_installed_anew(self, tmp_path: Path) -> None:
        (tmp_path / "installed").write_text(installed("b"))
        events = run(tmp_path)
        assert (events[1]["why"], events[1]["detail"]) == ("anew", "a")

    def test_what_dnf_refuses_is_told_with_its_reason(self, tmp_path: Path) -> None:
        problem = (
            "Error: \n Problem: cannot install the best update candidate\n  - nothing provides x needed by a-2-1\n"
        )
        says(tmp_path, "simulate", problem, end="exit 1")
        events = run(tmp_path)
        assert kinds(events) == ["download_started", "transaction_ended", "finished"]
        assert events[1]["cause"] == "refused"
        assert "nothing provides x" in str(events[1]["error"])


class TestTime:
    def test_a_download_that_does_not_end_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        jump = put_jumping_clock(tmp_path, monkeypatch)
        (tmp_path / "download").write_text(f"{jump}; exec sleep 120\n")
        events = run(tmp_path, seconds=600)
        assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["download"]
        assert not calls(tmp_path, "--comment=")

    def test_a_stop_ends_a_download(self, tmp_path: Path) -> None:
        (tmp_path / "download").write_text('touch "$FP_JOB_DIR/stop"; exec sleep 120\n')
        events = run(tmp_path)
        assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["stop"]

    def test_a_lock_is_not_waited_for_past_the_latest_start(self, tmp_path: Path) -> None:
        (tmp_path / "locked-download").touch()
        latest = int(time.time()) + 10
        events = run(tmp_path, tx_0_latest_start=str(latest))
        ended = events[-2]
        assert (ended["kind"], ended["cause"]) == ("transaction_ended", "lock")
        assert "RPMDB already locked by 7" in str(ended["error"])
        assert int(str(ended["at"])) <= latest + 5
        assert len(calls(tmp_path, "--downloadonly")) > 1

    def test_nothing_begins_without_a_latest_start(self, tmp_path: Path) -> None:
        told = run(tmp_path, tx_0_latest_start="")[-2]
        assert (told["kind"], told["why"]) == ("not_attempted", "window")

    def test_a_stop_during_the_last_check_keeps_the_tool_from_changes(self, tmp_path: Path) -> None:
        (tmp_path / "download").write_text(': >"$STAND_IN/fetched"\n')
        says(tmp_path, "simulate", UPGRADE, end='[ ! -e "$STAND_IN/fetched" ] || : >"$FP_JOB_DIR/stop"')
        told = run(tmp_path)[-2]
        assert (told["kind"], told["why"]) == ("not_attempted", "stop")
        assert not calls(tmp_path, "--comment=")

    def test_a_last_check_that_outlasts_the_latest_start_hides_no_lock(self, tmp_path: Path) -> None:
        latest = int(time.time()) + 10
        (tmp_path / "locked-install").write_text(': >"$STAND_IN/waits"\n')
        slow = f'[ ! -e "$STAND_IN/waits" ] || while [ "$(date +%s)" -le {latest} ]; do sleep 0.2; done'
        says(tmp_path, "simulate", UPGRADE, end=slow)
        ended = run(tmp_path, tx_0_latest_start=str(latest))[-2]
        assert (ended["kind"], ended["exit_code"], ended["cause"]) == ("transaction_ended", 200, "lock")
        assert len(calls(tmp_path, "--comment=")) == 1

    def test_what_somebody_did_meanwhile_is_looked_at_before_ours_begins(self, tmp_path: Path) -> None:
        freed = f'rm "$STAND_IN/locked-install"; printf %s "{UPGRADE}---> Package b.noarch 1-1 will be erased\n" '
        (tmp_path / "locked-install").write_text(f'{freed} >"$STAND_IN/simulate.txt"\n')
        events = run(tmp_path)
        assert kinds(events) == ["download_started", "transaction_started", "not_attempted", "finished"]
        assert (events[-2]["why"], events[-2]["detail"]) == ("removals", "b")
        assert len(calls(tmp_path, "--comment=")) == 1


FETCH = "[MIRROR] a-2-1.noarch.rpm: Curl error (7): Couldn't connect\nError: Error downloading packages:"
TEST = "Error: Transaction test error:\n  "
HISTORY = "Transaction ID : 12\nComment        : fleetpatch {}/0\n"


class TestEnd:
    @pytest.mark.parametrize(
        ("words", "cause", "told"),
        [
            ("error: %prein(a-2-1.noarch) scriptlet failed, exit status 1", "maintainer-script", "%prein(a-2"),
            (f"{TEST}installing package a needs 5MB more space on the / filesystem", "space", "a needs 5MB"),
            (f"{TEST}file /x from install of a-2-1 conflicts with file from package b-1-1", "refused", "file /x"),
            ('Error: Some packages cannot be downloaded due to "--cacheonly" option', "fetch", "Some packages"),
            (f"{FETCH}\n  a-2-1.noarch: Cannot download, all mirrors were already tried", "fetch", "7): Couldn't"),
            ("something else", "failed", "see the job's log"),
        ],
    )
    def test_the_cause_of_a_failure_is_told(self, tmp_path: Path, words: str, cause: str, told: str) -> None:
        says(tmp_path, "install", f"{words}\n", end="exit 1")
        ended = run(tmp_path)[-2]
        assert (ended["exit_code"], ended["cause"]) == (1, cause)
        assert str(ended["error"]).startswith(f"{cause}: ")
        assert told in str(ended["error"])

    def test_dnfs_history_says_how_to_undo_it(self, tmp_path: Path) -> None:
        says(tmp_path, "history", HISTORY.format(tmp_path.name))
        says(tmp_path, "repoquery", "a-0:1-1.noarch\n")
        assert run(tmp_path)[-2]["undo"] == "dnf history undo 12"

    def test_scripts_that_write_much_hide_nothing(self, tmp_path: Path) -> None:
        says(tmp_path, "history", HISTORY.format(tmp_path.name))
        says(tmp_path, "repoquery", "a-0:1-1.noarch\n")
        says(tmp_path, "install", "", end="head -c 300000 /dev/zero | tr '\\0' '\\n'")
        assert run(tmp_path)[-2]["undo"] == "dnf history undo 12"

    def test_what_no_repository_has_any_more_cannot_be_undone(self, tmp_path: Path) -> None:
        says(tmp_path, "history", HISTORY.format(tmp_path.name))
        undo = "not possible with dnf history undo 12: no enabled repository has a-1-1.noarch"
        assert run(tmp_path)[-2]["undo"] == undo

    def test_a_transaction_of_somebody_else_is_not_to_be_undone(self, tmp_path: Path) -> None:
        says(tmp_path, "history", HISTORY.format("of-another-job"))
        assert "undo" not in run(tmp_path)[-2]


class TestStage:
    def test_what_the_installation_will_stumble_over_is_told_before_the_window(self, tmp_path: Path) -> None:
        says(tmp_path, "test", "Error: Transaction test error:\n  file /x from install of a conflicts\n", end="exit 1")
        events = run(tmp_path, work="stage")
        assert kinds(events) == ["transaction_started", "transaction_ended", "finished"]
        assert events[1]["exit_code"] == 1
        assert "file /x" in str(events[1]["error"])
        assert not calls(tmp_path, "--comment=")

    def test_a_lock_is_no_failure_of_what_is_downloaded(self, tmp_path: Path) -> None:
        (tmp_path / "locked-test").touch()
        assert run(tmp_path, work="stage")[1]["exit_code"] == 0


TWICE = "1 a noarch a-1-1.noarch\n2 a noarch a-2-1.noarch\n1 kernel-core x86_64 kernel-core-1-1.x86_64\n"
TWICE += "2 kernel-core x86_64 kernel-core-2-1.x86_64\n"


class TestRepair:
    def test_what_an_interrupted_transaction_left_is_finished(self, tmp_path: Path) -> None:
        (tmp_path / "twice").write_text(TWICE)
        events = run(tmp_path, work="repair", tx_0_packages=[], tx_0_names=[], tx_0_present=[])
        assert kinds(events) == ["transaction_started", "transaction_ended", "finished"]
        assert events[1]["exit_code"] == 0
        assert (tmp_path / "erased").read_text() == "a-1-1.noarch\n"
        assert [line.rpartition(" reinstall ")[2] for line in calls(tmp_path, " reinstall ")] == ["a-2-1.noarch"] * 2

    def test_a_version_that_no_repository_has_any_more_stays_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "twice").write_text(TWICE)
        says(tmp_path, "download", "No match for argument: a-2-1.noarch\n", end="exit 1")
        events = run(tmp_path, work="repair", tx_0_packages=[], tx_0_names=[], tx_0_present=[])
        assert events[1]["exit_code"] == 0
        assert (tmp_path / "erased").read_text() == "a-1-1.noarch\n"
        assert not calls(tmp_path, "--comment=")

    def test_a_lock_after_old_versions_were_removed_is_not_told_as_if_nothing_had_begun(self, tmp_path: Path) -> None:
        (tmp_path / "twice").write_text(TWICE)
        (tmp_path / "locked-install").touch()
        words: dict[str, Any] = {"work": "repair", "lock_wait_seconds": "4"}
        ended = run(tmp_path, tx_0_packages=[], tx_0_names=[], tx_0_present=[], **words)[-2]
        assert (ended["exit_code"], ended["cause"]) == (200, "failed")
        assert "RPMDB already locked by 7" in str(ended["error"])

    def test_a_healthy_database_is_left_alone(self, tmp_path: Path) -> None:
        events = run(tmp_path, work="repair", tx_0_packages=[], tx_0_names=[], tx_0_present=[])
        assert events[1]["exit_code"] == 0
        assert not (tmp_path / "calls").exists()
