"""Somebody else's transaction comes before, between or after what apt_job.sh does: each keeps what is his."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.contract.test_apt_job_script import (
    APT_GET,
    APT_MARK,
    DPKG,
    DPKG_QUERY,
    FREE,
    STUCK,
    at_work,
    kinds,
    run,
)

LOCKED = "echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 5'; exit 2\n"
ONCE = f'[ -e "$STAND_IN/tried" ] || {{ : >"$STAND_IN/tried"; {{}} {LOCKED.strip()}; }}\n'
"""dpkg finds the lock taken once; what happens meanwhile goes in between."""
FAILS = """echo 'dpkg: error processing package bad (--unpack):'
echo ' new bad package pre-installation script subprocess returned error exit status 1'
"""
BEGUN = "transaction_ended"
TOOLS: Mapping[str, str] = {"dpkg-query": DPKG_QUERY, "dpkg": DPKG, "apt-mark": APT_MARK}


def meanwhile(what: str = "") -> str:
    return ONCE.replace("{}", what)


# ---- a transaction that has begun is reported as one that has begun


@pytest.mark.parametrize("lock", [meanwhile(), LOCKED])
def test_what_apt_has_begun_is_no_lock_that_kept_it_from_beginning(tmp_path: Path, lock: str) -> None:
    unpacked = 'echo "unpacked a:all" >"$STAND_IN/unfinished"; exit 100\n'
    (tmp_path / "at-apt").write_text(FAILS + unpacked)
    (tmp_path / "at-dpkg").write_text(lock)
    events, _ = at_work(tmp_path, tx_0_packages=["a=1", "bad=1"], lock_wait_seconds="4")
    assert kinds(events) == ["transaction_started", BEGUN, "finished"]
    assert (events[-2]["exit_code"], events[-2]["cause"]) == (100, "maintainer-script")
    assert "new bad package pre-installation script" in str(events[-2]["error"])


def test_a_transaction_that_went_well_did_so_though_somebodys_lock_was_waited_for_in_vain(tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text(STUCK)
    (tmp_path / "at-apt").write_text('echo "triggers-pending man-db:all" >>"$STAND_IN/unfinished"\n')
    (tmp_path / "at-dpkg").write_text(LOCKED)
    events, said = at_work(tmp_path, lock_wait_seconds="4")
    assert set(said["set-up"]) == {"man-db:all"}
    assert (events[-2]["exit_code"], events[-2]["cause"], events[-2]["error"]) == (0, "", "")


def repair(
    place: Path, *, seconds: int = 60, tools: Mapping[str, str] = TOOLS, **params: object
) -> list[dict[str, object]]:
    events = run(place, APT_GET, seconds, tools=tools, work="repair", tx_0_packages=[], **params)
    return [event for event in events if event["kind"] != "progress"]


def test_a_repair_that_a_lock_keeps_from_beginning_says_so(tmp_path: Path) -> None:
    (tmp_path / "at-dpkg").write_text(LOCKED)
    events = repair(tmp_path, lock_wait_seconds="4")
    assert [event.get("cause") for event in events if event["kind"] == BEGUN] == ["lock"]


@pytest.mark.parametrize(
    "said", ["Setting up a (1) ...", "Processing triggers for a (1) ...", "dpkg: dependency problems"]
)
def test_a_repair_that_fails_after_it_had_to_wait_for_a_lock_was_not_kept_from_beginning(
    tmp_path: Path, said: str
) -> None:
    (tmp_path / "at-dpkg").write_text(f"{meanwhile()}echo '{said}'; echo 'dpkg: error processing package a'; exit 1\n")
    events = repair(tmp_path)
    assert [(event["exit_code"], event["cause"]) for event in events if event["kind"] == BEGUN] == [(1, "failed")]


def test_a_repair_that_set_up_something_and_finds_the_lock_taken_afterwards_was_begun(tmp_path: Path) -> None:
    (tmp_path / "simulated").write_text("Inst a (1 repo [all])\n")
    (tmp_path / "at-dpkg").write_text('echo "Setting up b (1) ..."\n')
    (tmp_path / "locked").write_text("")
    events = repair(tmp_path, lock_wait_seconds="4")
    assert [(event["exit_code"], event["cause"]) for event in events if event["kind"] == BEGUN] == [(100, "failed")]


STAT = """#!/bin/sh
case $* in */var/lib/dpkg/status) cat "$STAND_IN/status" 2>/dev/null ;; *) exec /usr/bin/stat "$@" ;; esac
"""


def test_what_ends_during_the_last_check_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "newer").write_text("Inst b [1] (2 repo [all])\n")
    once = '[ -e "$STAND_IN/status" ] || { echo newer >"$STAND_IN/status"; '
    answer = f'*" -s "*) {once} exit 0; }}; cat "$STAND_IN/newer"; exit 0 ;;\n  *" -s "*)'
    apt_get = APT_GET.replace('*" -s "*)', answer)
    events = run(tmp_path, apt_get, 60, tools={**TOOLS, "stat": STAT})
    told = next(event for event in events if event["kind"] == "not_attempted")
    assert (told["why"], told["detail"]) == ("unexpected", "b 1 -> 2")
    assert not (tmp_path / "calls").exists()


# ---- what is half done and somebody else's


@pytest.mark.parametrize("words", ["E: Unmet dependencies. Try apt --fix-broken install", "E: dpkg was interrupted"])
def test_nothing_is_set_up_by_a_transaction_that_changed_nothing(tmp_path: Path, words: str) -> None:
    (tmp_path / "refuses").touch()
    (tmp_path / "at-apt").write_text(f'echo "unpacked other:all" >"$STAND_IN/unfinished"; echo "{words}"; exit 100\n')
    events, said = at_work(tmp_path)
    assert (said["set-up"], events[-2]["exit_code"]) == ([], 100)


def test_nothing_is_set_up_by_a_transaction_that_had_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text(STUCK)
    (tmp_path / "refuses").touch()
    (tmp_path / "at-apt").write_text('echo "unpacked other:all" >>"$STAND_IN/unfinished"\n')
    events, said = at_work(tmp_path)
    assert (said["set-up"], events[-2]["exit_code"]) == ([], 0)


@pytest.mark.parametrize("left", ["half-configured other:all", "unpacked a:all\\nhalf-configured other:all"])
def test_what_somebodys_transaction_leaves_half_done_while_it_is_waited_for_is_theirs(
    tmp_path: Path, left: str
) -> None:
    (tmp_path / "at-apt").write_text('echo "unpacked a:all" >"$STAND_IN/unfinished"; exit 100\n')
    (tmp_path / "at-dpkg").write_text(meanwhile(f'printf "{left}\\n" >"$STAND_IN/unfinished";'))
    events, said = at_work(tmp_path)
    assert set(said["set-up"]) == {"a:all"}
    assert len(said["set-up"]) == (2 if "unpacked" in left else 1)
    assert events[-2]["exit_code"] == 100


def test_a_package_that_somebody_chooses_while_they_are_waited_for_stays_theirs(tmp_path: Path) -> None:
    noted = {"apt-mark": (APT_MARK, "auto"), "dpkg": (DPKG, "--force-confdef")}
    note = '#!/bin/sh\n[ "$1" != {} ] || echo "$1" >>"$STAND_IN/order"\n'
    (tmp_path / "at-apt").write_text('echo "unpacked a:all" >"$STAND_IN/unfinished"; exit 100\n')
    tools = {name: note.format(word) + tool for name, (tool, word) in noted.items()}
    run(tmp_path, APT_GET, 60, tools={**TOOLS, **tools})
    assert (tmp_path / "order").read_text().split() == ["auto", "--force-confdef"]


# ---- what they keep in /etc


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., list[object]]:
    """Run a job whose /etc is a folder of the test; return which configuration files it told of."""
    etc = tmp_path / "etc"
    etc.mkdir()
    find = f'#!/bin/sh\nshift\nexec /usr/bin/find {etc} "$@"\n'

    def told(**params: object) -> list[object]:
        events = run(tmp_path, APT_GET, 60, tools={**TOOLS, "find": find}, **params)
        return [Path(str(event["kept_as"])).name for event in events if event["kind"] == "configuration_kept"]

    return told


def keeps(name: str) -> str:
    return f'sleep 0.1; : >"$STAND_IN/etc/{name}"; sleep 0.1;'


def test_what_somebodys_transaction_keeps_while_ours_waits_is_theirs(
    tmp_path: Path, kept: Callable[..., list[object]]
) -> None:
    (tmp_path / "locked").write_text(FREE + keeps("his.dpkg-dist"))
    (tmp_path / "at-apt").write_text(keeps("ours.dpkg-dist"))
    assert kept() == ["ours.dpkg-dist"]


def test_what_somebody_keeps_while_the_rest_waits_is_theirs_and_all_of_ours_is_told(
    tmp_path: Path, kept: Callable[..., list[object]]
) -> None:
    unpacked = f'{keeps("settled.dpkg-new")} echo "unpacked a:all" >"$STAND_IN/unfinished"; exit 100'
    (tmp_path / "at-apt").write_text(keeps("ours.dpkg-dist") + unpacked)
    settles = f'rm "$STAND_IN/etc/settled.dpkg-new"; {keeps("late.dpkg-dist")}'
    (tmp_path / "at-dpkg").write_text(f"{meanwhile(keeps('his.dpkg-dist'))}{settles}\n")
    assert sorted(map(str, kept())) == ["late.dpkg-dist", "ours.dpkg-dist"]


def test_what_somebody_keeps_while_a_repair_waits_is_theirs(tmp_path: Path, kept: Callable[..., list[object]]) -> None:
    (tmp_path / "simulated").write_text("Inst a (1 repo [all])\n")
    (tmp_path / "at-dpkg").write_text(meanwhile(keeps("his.dpkg-dist")) + keeps("ours.dpkg-dist"))
    (tmp_path / "locked").write_text(FREE + keeps("his-too.dpkg-dist"))
    (tmp_path / "at-apt").write_text(keeps("late.dpkg-dist"))
    assert sorted(map(str, kept(work="repair"))) == ["late.dpkg-dist", "ours.dpkg-dist"]


# ---- a stop while a repair waits


def test_a_repair_begins_nothing_once_it_is_asked_to_stop(tmp_path: Path) -> None:
    (tmp_path / "at-dpkg").write_text(meanwhile('touch "$STAND_IN/stop";') + 'touch "$STAND_IN/changed"\n')
    events = repair(tmp_path)
    assert kinds(events) == ["transaction_started", "not_attempted", "finished"]
    assert events[-2]["why"] == "stop"
    assert not (tmp_path / "changed").exists()


@pytest.mark.parametrize("changes", [False, True])
def test_a_repair_that_is_asked_to_stop_before_it_installs_says_whether_it_has_begun(
    tmp_path: Path, changes: bool
) -> None:
    (tmp_path / "simulated").write_text("Inst a (1 repo [all])\n")
    (tmp_path / "at-dpkg").write_text('echo "Setting up b (1) ..."\n' if changes else "")
    (tmp_path / "locked").write_text('touch "$STAND_IN/stop"\n')
    events = repair(tmp_path)
    assert kinds(events) == ["transaction_started", BEGUN if changes else "not_attempted", "finished"]
    assert events[-2]["cause" if changes else "why"] == ("failed" if changes else "stop")


def test_what_is_left_of_an_installation_is_set_up_whoever_asks_to_stop(tmp_path: Path) -> None:
    (tmp_path / "at-apt").write_text('echo "unpacked a:all" >"$STAND_IN/unfinished"; exit 100\n')
    (tmp_path / "at-dpkg").write_text(meanwhile('touch "$STAND_IN/stop";'))
    _, said = at_work(tmp_path)
    assert said["set-up"] == ["a:all", "a:all"]
