"""How rpm_job.sh removes kernels: each on its own, what rpm accepts, and nothing after its time."""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.machines.transport.script_library import load_script
from tests.contract.jumping_clock import put_jumping_clock
from tests.contract.test_rpm_job_script import kinds, run

TWO_KERNELS: Mapping[str, Any] = {
    "work": "remove",
    "numbers": ["0", "1"],
    "tx_0_packages": ["core-1-1.noarch", "gone-1-1.noarch"],
    "tx_1_packages": ["core-2-1.noarch"],
}
WORDS = r"error: Failed dependencies:\n\tcore = 1-1 is needed by (installed) kmod\n"
REFUSES = f"case $* in *core-1-1*) printf '{WORDS}' >&2; exit 1 ;; esac"
REMOVED = ["transaction_started", "transaction_ended"]


def remove(place: Path, **more: Any) -> list[dict[str, object]]:
    return run(place, **{**TWO_KERNELS, "tx_1_latest_start": str(int(time.time()) + 60), **more})


def test_what_is_gone_already_is_not_named(tmp_path: Path) -> None:
    events = remove(tmp_path)
    assert kinds(events) == [*REMOVED, *REMOVED, "finished"]
    assert [event["exit_code"] for event in events if event["kind"] == "transaction_ended"] == [0, 0]
    assert (tmp_path / "erased").read_text() == "core-1-1.noarch\ncore-2-1.noarch\n"


def test_what_an_unreadable_database_does_not_have_is_not_called_gone(tmp_path: Path) -> None:
    (tmp_path / "unreadable").touch()
    remove(tmp_path)
    assert "gone-1-1.noarch" in (tmp_path / "erased").read_text()


def test_a_kernel_that_is_needed_stays_and_the_others_go(tmp_path: Path) -> None:
    (tmp_path / "needed").write_text(REFUSES)
    events = remove(tmp_path)
    assert kinds(events) == ["transaction_started", "not_attempted", *REMOVED, "finished"]
    assert (events[1]["why"], events[1]["detail"]) == (
        "rpm refuses it",
        "core = 1-1 is needed by (installed) kmod",
    )
    assert (tmp_path / "erased").read_text() == "core-2-1.noarch\n"


def test_a_test_that_fails_for_another_reason_is_a_failure_and_ends_the_work(tmp_path: Path) -> None:
    (tmp_path / "needed").write_text("echo 'error: rpmdb open failed'; exit 1\n")
    events = remove(tmp_path)
    assert [event["exit_code"] for event in events if event["kind"] == "transaction_ended"] == [1]
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["not begun"]
    assert not (tmp_path / "erased").exists()


def test_a_stop_during_the_test_is_heard(tmp_path: Path) -> None:
    (tmp_path / "needed").write_text('touch "$FP_JOB_DIR/stop"\n')
    events = remove(tmp_path)
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["stop", "stop"]
    assert not (tmp_path / "erased").exists()


def test_nothing_begins_after_its_time_when_the_test_took_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needed").write_text(f"{put_jumping_clock(tmp_path, monkeypatch)}\n")
    events = remove(tmp_path, seconds=600)
    assert [event["why"] for event in events if event["kind"] == "not_attempted"] == ["window", "window"]
    assert not (tmp_path / "erased").exists()


@pytest.mark.parametrize(("tool", "kind"), [("dnf", "repoquery"), ("zypper", "install")])
def test_what_the_tool_does_not_tell_is_not_called_needed(tmp_path: Path, tool: str, kind: str) -> None:
    (tmp_path / kind).write_text("echo 'error: no database' >&2\nexit 1\n")
    one: dict[str, Any] = {"numbers": ["0"], "tx_0_packages": ["core-1-1.noarch"], "downgrades": "yes"}
    events = run(tmp_path, tool, **{**TWO_KERNELS, **one})
    assert [(event["why"], event["detail"]) for event in events if event["kind"] == "not_attempted"] == [
        ("unread", "what nothing needs: error: no database")
    ]
    assert not (tmp_path / "erased").exists()


def test_what_could_not_be_compared_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "rpm-may").symlink_to(tmp_path / "gone" / "list")  # it can neither be written nor read
    events = run(tmp_path)
    assert [(event["why"], event["detail"]) for event in events if event["kind"] == "not_attempted"] == [
        ("unread", "its changes are not known")
    ]


def test_a_list_of_changes_that_is_not_written_is_no_short_one(tmp_path: Path) -> None:
    (tmp_path / "rpm-would").symlink_to(tmp_path / "gone" / "list")
    events = run(tmp_path)
    assert [event["exit_code"] for event in events if event["kind"] == "transaction_ended"] == [74]


ZYPPER_NEEDS = r"""#!/bin/sh
case $* in *'packages --unneeded') printf 'i | @System | %s | 1-1 | noarch\n' lib tool ;; esac
"""


@pytest.mark.parametrize(("chosen", "told"), [("", "lib.noarch\n"), ("chosen() { return 1; }", "failed\n")])
def test_needless_is_only_what_nobody_is_known_to_have_chosen(tmp_path: Path, chosen: str, told: str) -> None:
    (tmp_path / "zypper").write_text(ZYPPER_NEEDS)
    (tmp_path / "zypper").chmod(0o755)
    (tmp_path / "log").write_text("1 ===== 'zypper' '-n' 'install' 'tool' =====\n")
    (tmp_path / "AutoInstalled").write_text("lib\ntool\n")
    needs = load_script("package_needs", "tasks.machines.managers.rpm.zypper")
    needs = needs.replace("/var/lib/zypp/AutoInstalled", str(tmp_path / "AutoInstalled"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ZYPP_LOGFILE": str(tmp_path / "log")}
    script = ["sh", "-c", f"{needs}\n{chosen}\nneedless || echo failed"]
    ran = subprocess.run(script, env=environment, check=True, capture_output=True, text=True)
    assert ran.stdout == told
