"""What rpm_job.sh tells of scripts of packages that failed, and of a lock that its last check meets."""

from pathlib import Path

import pytest

from tests.contract.test_rpm_job_script import INSTALLED, TOOLS, calls, kinds, run, says
from tests.contract.test_yum_job_script import UPGRADE as YUM_UPGRADE
from tests.contract.test_yum_job_script import YUM
from tests.contract.test_zypper_job_script import SUMMARY


@pytest.mark.parametrize(
    "words",
    [
        "warning: %post(a-2-1.noarch) scriptlet failed, exit status 1",
        'error: lua script failed: [string "%post(a-2-1.noarch)"]:1: failing\n'
        "Error in POSTIN scriptlet in rpm package a",
        # dnf 5
        ">>> Running post-install scriptlet: a-0:2-1.noarch\n"
        ">>> Non-critical error in post-install scriptlet: a-0:2-1.noarch\n"
        ">>> [RPM] %post(a-2-1.noarch) scriptlet failed, exit status 1",
        ">>> Non-critical error in %post scriptlet: a-0:2-1.noarch\n"
        '>>> [RPM] lua script failed: [string "%post(a-2-1.noarch)"]:1: no',
    ],
)
def test_a_script_that_failed_is_told_although_dnf_ends_with_0(tmp_path: Path, words: str) -> None:
    says(tmp_path, "install", f"{words}\n")
    ended = run(tmp_path)[-2]
    assert (ended["exit_code"], ended["cause"]) == (0, "maintainer-script")
    assert "%post(a-2-1.noarch)" in str(ended["error"])


def test_scripts_that_ran_are_no_failure(tmp_path: Path) -> None:
    says(
        tmp_path, "install", ">>> Running post-install scriptlet: a-0:2-1.noarch\n>>> Finished post-install scriptlet\n"
    )
    assert run(tmp_path)[-2]["error"] == ""


def test_a_lock_is_also_waited_for_by_the_last_check(tmp_path: Path) -> None:
    says(tmp_path, "download", "", end='echo \'rm "$STAND_IN/locked-simulate"\' >"$STAND_IN/locked-simulate"')
    assert kinds(run(tmp_path)) == INSTALLED


def test_a_lock_that_stays_in_the_last_check_is_told_as_a_lock(tmp_path: Path) -> None:
    says(tmp_path, "download", "", end=': >"$STAND_IN/locked-simulate"')
    ended = run(tmp_path, lock_wait_seconds="4")[-2]
    assert (ended["kind"], ended["exit_code"], ended["cause"]) == ("transaction_ended", 200, "lock")
    assert "RPMDB already locked by 7" in str(ended["error"])
    assert not calls(tmp_path, "--comment=")


def test_a_lock_during_the_last_check_is_a_lock(tmp_path: Path) -> None:
    says(tmp_path, "simulate", SUMMARY.format(""))
    busy = "System management is locked by the application with pid 7 (packagekitd).\n"
    says(
        tmp_path,
        "download",
        "",
        end='echo \'cat "$STAND_IN/busy"; exit 7\' | tee "$STAND_IN/simulate" >"$STAND_IN/test"',
    )
    (tmp_path / "busy").write_text(busy)
    ended = run(tmp_path, "zypper", lock_wait_seconds="4")[-2]
    assert (ended["exit_code"], ended["cause"], "pid 7" in str(ended["error"])) == (7, "lock", True)


@pytest.fixture
def yum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "download.code").touch()
    monkeypatch.setitem(TOOLS, "yum", YUM)
    says(tmp_path, "simulate", YUM_UPGRADE)
    return tmp_path


def test_a_lock_during_yums_last_check_is_a_lock(yum: Path) -> None:
    says(yum, "download", "", end=': >"$STAND_IN/locked-simulate"')
    ended = run(yum, "yum", lock_wait_seconds="4")[-2]
    assert (ended["exit_code"], ended["cause"]) == (200, "lock")


def test_files_kept_by_yum_are_told_also_when_scripts_write_much(yum: Path) -> None:
    """What yum says when it begins is then far above the end of the log."""
    says(yum, "install", "", end="head -c 300000 /dev/zero | tr '\\0' '\\n'")
    says(yum, "list", "    12 | root | now | Update | 1\n")
    says(yum, "info", "Command Line   : -C install a-2-1.noarch\n")
    says(yum, "available", "Available Packages\na.noarch 1-1 updates\n")
    assert run(yum, "yum")[-2]["undo"] == "yum history undo 12"


def test_kernels_with_a_version_in_their_name_may_be_installed_side_by_side(tmp_path: Path) -> None:
    """Those of Amazon Linux: a repair would remove the older one, which may be the running one."""
    rows = [f"{n} kernel6.12 x86_64 kernel6.12-6.12.{n}-1.x86_64\n" for n in (1, 2)]
    (tmp_path / "twice").write_text("".join(rows))
    assert run(tmp_path, work="repair", tx_0_packages=[], tx_0_names=[], tx_0_present=[])[1]["exit_code"] == 0
    assert not (tmp_path / "erased").exists()
