"""What apt_job.sh asks of apt-get when that fails or takes too long: a stand-in for apt-get notes how it is called."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ci.tree import TOP
from tests.contract.jumping_clock import put_jumping_clock

POSIX_SCRIPTS = TOP / "tasks/machines/scripts/posix"
APT_SCRIPTS = TOP / "tasks/machines/managers/apt/scripts"
NOTHING: Mapping[str, str] = {}
HELD = "Could not get lock /var/cache/apt/archives/lock. It is held by process 1 (somebody)"
UNABLE = "Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?"
LOCKED = f"""#!/bin/sh
for word; do case $word in DPkg::Lock::Timeout=*) echo "$(date +%s) ${{word#*=}}" >>"$STAND_IN/tries" ;; esac; done
echo 'E: {HELD}'
exit 100
"""
NEVER_DONE = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in *--download-only*) exec sleep 120 ;; esac
"""
DONE_LATE = """#!/bin/sh
echo "$*" >>"$STAND_IN/calls"
case "$*" in *--download-only*) trap 'exit 0' TERM; sleep 120 & wait ;; esac
"""


def run(
    place: Path, apt_get: str, seconds: int, *, tools: Mapping[str, str] = NOTHING, **more: object
) -> list[dict[str, object]]:
    """Run a job of one transaction that may begin for so many seconds; return its records."""
    folder = place / "tools"
    folder.mkdir()
    # this machine's own apt-mark would read all lists of its repositories
    quiet = dict.fromkeys(("dpkg-query", "apt-mark"), "#!/bin/sh\n")
    stand_ins = {"apt-get": apt_get, "dpkg": "#!/bin/sh\necho amd64\n", **quiet, **tools}
    for name, text in stand_ins.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    latest = str(int(time.time()) + seconds)
    params: dict[str, object] = {"work": "install", "numbers": ["0"], "tx_0_latest_start": latest}
    params |= {"tx_0_packages": ["a=1"], **more}
    token = base64.b64encode(json.dumps(params, separators=(",", ":")).encode())
    script = f'exec 3>>"{place}/events" >>"{place}/log" 2>&1; . {POSIX_SCRIPTS}/prelude.sh; '
    script += f". {APT_SCRIPTS}/apt_options.sh; . {APT_SCRIPTS}/dpkg_query.sh; "
    script += f". {APT_SCRIPTS}/unmet_dependencies.sh; "
    script += f". {APT_SCRIPTS}/unfinished_packages.sh; . {POSIX_SCRIPTS}/package_locks.sh; "
    script += f". {POSIX_SCRIPTS}/transactions.sh; . {APT_SCRIPTS}/apt_download.sh; . {APT_SCRIPTS}/apt_removal.sh; "
    script += f". {APT_SCRIPTS}/apt_errors.sh; "
    script += f". {APT_SCRIPTS}/apt_kept.sh; . {APT_SCRIPTS}/apt_keep.sh; . {APT_SCRIPTS}/apt_job.sh"
    script = f'echo "$$ 1 boot 0" >"{place}/meta"; {script}'
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "FP_JOB_DIR": str(place), "FP_TOKEN": token.decode()}
    environment["STAND_IN"] = str(place)
    subprocess.run(["sh", "-c", script], env=environment, check=True, timeout=90, stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in (place / "events").read_text().splitlines()]


@pytest.mark.parametrize("words", [HELD, UNABLE])
def test_no_try_for_a_lock_waits_past_the_latest_start(tmp_path: Path, words: str) -> None:
    latest = int(time.time()) + 8
    events = run(tmp_path, LOCKED.replace(HELD, words), 8)
    tries = [[int(word) for word in line.split()] for line in (tmp_path / "tries").read_text().splitlines()]
    assert len(tries) > 1
    assert all(patience >= 0 and at + patience <= latest + 1 for at, patience in tries), tries
    assert [event["kind"] for event in events if event["kind"] not in {"progress", "waiting"}] == [
        "download_started",
        "transaction_ended",
        "finished",
    ]
    assert str(events[-2]["error"]).startswith("lock: ")
    told = [str(event["who"]) for event in events if event["kind"] == "waiting"]
    assert told == [words.removeprefix("E: ")]  # said once, for whoever follows the run


def test_a_lock_is_told_as_one_where_the_wait_for_it_takes_longer_than_planned(tmp_path: Path) -> None:
    slow = LOCKED.replace(
        "echo 'E:",
        "for word; do case $word in DPkg::Lock::Timeout=*) sleep $((2 * ${word#*=})) ;; esac; done\necho 'E:",
    )
    events = run(tmp_path, slow, 14)
    assert [event["cause"] for event in events if event["kind"] == "transaction_ended"] == ["lock"], events


def test_lines_that_a_script_indents_below_its_complaint_belong_to_it(tmp_path: Path) -> None:
    said = """Setting up grub-pc (2) ...
You must correct your GRUB install devices before proceeding:

  DEBIAN_FRONTEND=dialog dpkg --configure grub-pc
  dpkg --configure -a
dpkg: error processing package grub-pc (--configure):
 installed grub-pc package post-installation script subprocess returned error exit status 1
Errors were encountered while processing:
 grub-pc
E: Sub-process /usr/bin/dpkg returned an error code (1)"""
    events = run(tmp_path, f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit 100\n", 60)
    (ended,) = [event for event in events if event["kind"] == "transaction_ended"]
    assert ended["error"] == (
        "maintainer-script: grub-pc: installed grub-pc package post-installation script subprocess returned error exit "
        "status 1 (You must correct your GRUB install devices before proceeding: DEBIAN_FRONTEND=dialog dpkg "
        "--configure grub-pc dpkg --configure -a)"
    )


@pytest.mark.parametrize("download", [NEVER_DONE, DONE_LATE], ids=["never", "late and well"])
def test_nothing_is_unpacked_when_a_download_does_not_end_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: str
) -> None:
    jump = put_jumping_clock(tmp_path, monkeypatch)
    events = run(tmp_path, download.replace("sleep 120", f'sh -c "{jump}; exec sleep 120"'), 600)
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


APT_GET = """#!/bin/sh
case $* in
  *--download-only* | *--print-uris*) exit 0 ;;
  *" -s "*) [ ! -e "$STAND_IN/unsimulated" ] || { cat "$STAND_IN/unsimulated" >&2; exit 100; } ;;
esac
case $* in
  *" -s autoremove"*) cat "$STAND_IN/needless" 2>/dev/null || printf 'Remv %s [1]\n' a b; exit 0 ;;
  *" -s "*) cat "$STAND_IN/simulated" 2>/dev/null; exit 0 ;;
esac
echo "$*" >>"$STAND_IN/calls"
if [ -e "$STAND_IN/locked" ]; then
  . "$STAND_IN/locked" # what changes in the meantime
  echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (somebody)'
  exit 100
fi
[ -e "$STAND_IN/refuses" ] || echo 'pmstatus:a:50.0:Unpacking a' >&5 # as soon as it changes something
[ ! -e "$STAND_IN/at-apt" ] || . "$STAND_IN/at-apt"
"""
# without names: states of what is unfinished; with some: their own names and states
DPKG_QUERY = """#!/bin/sh
[ ! -e "$STAND_IN/fatal-$#" ] || { echo 'dpkg-query: error: no database' >&2; exit 2; }
case $# in 3) cat "$STAND_IN/unfinished" 2>/dev/null; exit 0 ;; esac
shift 3
code=0
for name; do
  if read -r state <"$STAND_IN/state-$name"; then echo "$name $name:all $state"; else code=1; fi # no such package
done 2>/dev/null
exit $code
"""
DPKG = """#!/bin/sh
case $* in --print-architecture) echo amd64; exit ;; esac
for word; do case $word in -*) ;; *) echo "$word" >>"$STAND_IN/set-up" ;; esac; done
[ ! -e "$STAND_IN/at-dpkg" ] || . "$STAND_IN/at-dpkg"
rm -f "$STAND_IN/unfinished"
"""
APT_MARK = """#!/bin/sh
[ ! -e "$STAND_IN/unmarked" ] || { echo 'E: no marks' >&2; exit 100; }
case $1 in
  showauto) cat "$STAND_IN/automatic" 2>/dev/null || : ;;
  auto) shift; printf '%s\\n' "$@" >>"$STAND_IN/marked" ;;
esac
"""
APT_CACHE = """#!/bin/sh
[ ! -e "$STAND_IN/unneeded" ] || { echo 'E: no cache' >&2; exit 100; }
"""
FREE = 'rm "$STAND_IN/locked"; '


def at_work(place: Path, **params: object) -> tuple[list[dict[str, object]], dict[str, list[str]]]:
    """Run an installation beside somebody else's work; return its records, and what the stand-ins noted, by file."""
    tools = {"dpkg-query": DPKG_QUERY, "dpkg": DPKG, "apt-mark": APT_MARK, "apt-cache": APT_CACHE}
    events = run(place, APT_GET, 60, tools=tools, **params)
    notes = {name: place / name for name in ("calls", "set-up", "marked")}
    said = {name: path.read_text().splitlines() if path.exists() else [] for name, path in notes.items()}
    return [event for event in events if event["kind"] not in {"progress", "download_started"}], said


def kinds(events: list[dict[str, object]]) -> list[object]:
    return [event["kind"] for event in events if event["kind"] != "waiting"]


def test_what_somebody_removed_after_the_assessment_is_not_installed_anew(tmp_path: Path) -> None:
    (tmp_path / "simulated").write_text("Inst a (1 repo [all])\nInst new (1 repo [all])\nConf a (1 repo [all])\n")
    events, said = at_work(tmp_path, tx_0_present=["a"])
    assert kinds(events) == ["not_attempted", "finished"]
    assert (events[0]["why"], events[0]["detail"]) == ("anew", "a")
    assert said["calls"] == []


@pytest.mark.parametrize("present", [[], ["a"]])
def test_what_comes_along_or_is_still_there_is_installed(tmp_path: Path, present: list[str]) -> None:
    old = "[0.9] " if present else ""
    (tmp_path / "simulated").write_text(f"Inst a {old}(1 repo [all])\nInst new (1 repo [all])\n")
    events, said = at_work(tmp_path, tx_0_present=present)
    assert kinds(events) == ["transaction_started", "transaction_ended", "finished"]
    assert len(said["calls"]) == 1


def test_what_somebodys_transaction_has_made_of_ours_is_looked_at_before_ours_begins(tmp_path: Path) -> None:
    (tmp_path / "locked").write_text(f'{FREE}echo "Remv b [1]" >"$STAND_IN/simulated"\n')
    events, said = at_work(tmp_path)
    assert kinds(events) == ["transaction_started", "not_attempted", "finished"]
    assert (events[-2]["why"], events[-2]["detail"]) == ("removals", "b")
    assert len(said["calls"]) == 1
    assert "DPkg::Lock::Timeout=0" in said["calls"][0], "apt would begin by itself once the lock is free"


def test_ours_begins_after_somebodys_transaction(tmp_path: Path) -> None:
    (tmp_path / "locked").write_text(FREE)
    events, said = at_work(tmp_path)
    assert [event.get("exit_code") for event in events if event["kind"] == "transaction_ended"] == [0]
    assert len(said["calls"]) == 2


def test_triggers_that_somebodys_transaction_left_are_run_with_ours(tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text("triggers-pending man-db:amd64\ntriggers-awaited other:all\n")
    events, said = at_work(tmp_path)
    assert "ConfigurePending=false" not in said["calls"][0]
    assert events[-2]["exit_code"] == 0


STUCK = "half-configured broken:all\n"


def test_what_failed_before_is_left_alone_and_triggers_are_run(tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text(f"{STUCK}triggers-pending man-db:amd64\ntriggers-awaited other:all\n")
    _, said = at_work(tmp_path)
    assert "-o DPkg::ConfigurePending=false" in said["calls"][0]
    assert said["set-up"] == ["man-db:amd64"], "dpkg refuses to set up what only waits for the triggers of another"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("dpkg frontend lock was locked by another process with pid 5", 2),
        ("error processing package other (--configure): package other is already installed and configured", 1),
    ],
)
def test_what_somebody_else_has_set_up_by_then_is_no_complaint(tmp_path: Path, words: str, code: int) -> None:
    (tmp_path / "unfinished").write_text(STUCK)
    (tmp_path / "at-apt").write_text('echo "half-configured other:all" >>"$STAND_IN/unfinished"\n')
    done = f'echo "{STUCK.strip()}" >"$STAND_IN/unfinished"'
    (tmp_path / "at-dpkg").write_text(f'{done}; echo "dpkg: error: {words}"; exit {code}\n')
    events, said = at_work(tmp_path)
    assert said["set-up"] == ["other:all"]
    assert (events[-2]["kind"], events[-2]["exit_code"], events[-2]["error"]) == ("transaction_ended", 0, "")


def test_what_fails_to_be_set_up_is_told(tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text(STUCK)
    (tmp_path / "at-apt").write_text('echo "half-configured other:all" >>"$STAND_IN/unfinished"\n')
    (tmp_path / "at-dpkg").write_text('echo "dpkg: error: no"; exit 1\n')
    events, said = at_work(tmp_path)
    assert said["set-up"] == ["other:all"]
    assert events[-2]["exit_code"] == 1


def test_what_an_apt_that_broke_off_has_left_is_set_up_though_it_named_no_package(tmp_path: Path) -> None:
    (tmp_path / "at-apt").write_text('echo "unpacked a:all" >"$STAND_IN/unfinished"; exit 100\n')
    events, said = at_work(tmp_path)
    assert said["set-up"] == ["a:all"]
    assert events[-2]["exit_code"] == 100


def test_somebodys_packages_are_not_waited_for_when_ours_are_set_up(tmp_path: Path) -> None:
    (tmp_path / "at-apt").write_text('echo "unpacked other:all" >"$STAND_IN/unfinished"\n')
    events, said = at_work(tmp_path)
    assert (said["set-up"], events[-2]["exit_code"]) == ([], 0)


def test_what_is_half_done_while_a_lock_keeps_ours_from_beginning_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "locked").write_text('echo "half-configured other:all" >"$STAND_IN/unfinished"\n')
    events, said = at_work(tmp_path, lock_wait_seconds="4")
    assert str(events[-2]["error"]).startswith("lock: ")
    assert (said["set-up"], said["marked"]) == ([], [])


def test_a_new_package_is_there_for_others(tmp_path: Path) -> None:
    (tmp_path / "automatic").write_text("b\n")
    (tmp_path / "state-b").write_text("installed\n")
    _, said = at_work(tmp_path, tx_0_packages=["a=1", "b=1"])
    assert said["marked"] == ["b", "a"]


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("fatal-3", "which packages failed before: dpkg-query: error: no database"),
        ("fatal-4", "which packages nobody has chosen: dpkg-query: error: no database"),
        ("unmarked", "which packages nobody has chosen: E: no marks"),
        ("unneeded", "what depends on packages that failed before: E: no cache"),
    ],
)
def test_a_question_that_fails_is_no_empty_answer(tmp_path: Path, fault: str, detail: str) -> None:
    (tmp_path / fault).touch()
    if fault == "unneeded":
        (tmp_path / "unfinished").write_text(STUCK)
        (tmp_path / "simulated").write_text("Inst a (1 repo [all])\n")
    events, said = at_work(tmp_path)
    assert [(event["why"], event["detail"]) for event in events if event["kind"] == "not_attempted"] == [
        ("unread", detail)
    ]
    assert said["calls"] == []


def test_what_apt_refuses_in_the_last_check_is_a_failure_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "unsimulated").write_text("E: Version '1' for 'a' was not found\n")
    events, said = at_work(tmp_path)
    (ended,) = [event for event in events if event["kind"] == "transaction_ended"]
    assert (ended["exit_code"], ended["error"]) == (100, "gone: Version '1' for 'a' was not found")
    assert said["calls"] == []


def test_a_removal_that_can_not_be_checked_says_why(tmp_path: Path) -> None:
    (tmp_path / "unsimulated").write_text("W: old\nE: no lists\n")
    events, said = at_work(tmp_path, work="remove")
    assert [(event["why"], event["detail"]) for event in events if event["kind"] == "not_attempted"] == [
        ("unread", "what nothing needs: E: no lists")
    ]
    assert said["calls"] == []


def test_a_package_that_somebody_chose_meanwhile_stays_theirs(tmp_path: Path) -> None:
    (tmp_path / "automatic").write_text("b\n")
    (tmp_path / "state-b").write_text("installed\n")
    (tmp_path / "locked").write_text(f'{FREE}rm "$STAND_IN/automatic"; echo installed >"$STAND_IN/state-a"\n')
    events, said = at_work(tmp_path, tx_0_packages=["a=1", "b=1"])
    assert kinds(events) == ["transaction_started", "transaction_ended", "finished"]
    assert said["marked"] == []


def test_nothing_is_removed_after_its_time_when_the_simulation_took_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = APT_GET.replace("*) cat", f"*) {put_jumping_clock(tmp_path, monkeypatch)}; cat")
    events = run(tmp_path, slow, 600, work="remove")
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["window"]
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(("work", "list_"), [("remove", "apt-needless"), ("install", "apt-may")])
def test_what_could_not_be_checked_is_not_changed(tmp_path: Path, work: str, list_: str) -> None:
    (tmp_path / list_).symlink_to(tmp_path / "gone" / "list")  # it can neither be written nor read
    events, said = at_work(tmp_path, work=work)
    assert [(event["why"], event["detail"]) for event in events if event["kind"] == "not_attempted"] == [
        ("unexpected", "it could not be checked")
    ]
    assert said["calls"] == []


def test_what_is_not_needless_any_more_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "needless").write_text("Remv b [1]\n")
    events, said = at_work(tmp_path, work="remove")
    assert [(event["why"], event["detail"]) for event in events if event["kind"] == "not_attempted"] == [
        ("needed", "a")
    ]
    assert said["calls"] == []


def test_a_removal_that_failed_is_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "at-apt").write_text("exit 100\n")
    more = {"numbers": ["0", "1"], "tx_1_packages": ["b=1"], "tx_1_latest_start": str(int(time.time()) + 60)}
    events, said = at_work(tmp_path, work="remove", **more)
    assert kinds(events) == ["transaction_started", "transaction_ended", "not_attempted", "finished"]
    assert [line.partition(" -y ")[2].rpartition(" remove ")[2] for line in said["calls"]] == ["a"]
    assert "purge" not in " ".join(said["calls"])
