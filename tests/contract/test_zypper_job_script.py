"""What rpm_job.sh asks of zypper when packages fail, it updates itself, or another process has its lock."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_rpm_job_script import INSTALLED, calls, installed, kinds, run, says

SOLVABLE = '<solvable type="package" name="{}" edition="2-1" arch="noarch" edition-old="1-1" arch-old="noarch"/>'
SUMMARY = f"<stream><install-summary>\n<to-upgrade>{SOLVABLE.format('a')}</to-upgrade>{{}}</install-summary></stream>\n"
FAILED = """(1/2) Installing: b-2-1.noarch [...error]
Installation of b-2-1.noarch failed:
error: %prein(b-2-1.noarch) scriptlet failed, exit status 1
"""
ONCE = 'if [ ! -e "$STAND_IN/tried" ]; then : >"$STAND_IN/tried"; exit {}; fi'
OURS = " install --download-in-advance "


class TestZypper:
    @pytest.fixture(autouse=True)
    def _summary(self, tmp_path: Path) -> None:
        says(tmp_path, "simulate", SUMMARY.format(""))

    def test_what_comes_after_a_package_that_fails_is_installed_all_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "installed").write_text(installed("a", "b"))
        says(tmp_path, "install", FAILED, end=ONCE.format(8))
        both: dict[str, Any] = {"tx_0_packages": ["a-2-1.noarch", "b-2-1.noarch"], "tx_0_names": ["a", "b"]}
        events = run(tmp_path, "zypper", **both, tx_0_present=["a", "b"])
        assert kinds(events) == INSTALLED
        assert (events[2]["exit_code"], events[2]["cause"]) == (8, "maintainer-script")
        assert [line.partition(OURS)[2] for line in calls(tmp_path, OURS)] == [
            "a-2-1.noarch b-2-1.noarch",
            "a-2-1.noarch",
        ]

    def test_nothing_more_begins_after_the_latest_start(self, tmp_path: Path) -> None:
        (tmp_path / "installed").write_text(installed("a", "b"))
        says(tmp_path, "install", FAILED, end="sleep 8; exit 8")
        both: dict[str, Any] = {"tx_0_packages": ["a-2-1.noarch", "b-2-1.noarch"], "tx_0_names": ["a", "b"]}
        run(tmp_path, "zypper", seconds=6, **both, tx_0_present=["a", "b"])
        assert len(calls(tmp_path, OURS)) == 1

    @pytest.mark.parametrize(("code", "times"), [(102, 1), (103, 2), (106, 1)])
    def test_what_is_only_information_is_no_failure(self, tmp_path: Path, code: int, times: int) -> None:
        says(tmp_path, "install", "(1/1) Installing: a-2-1.noarch [done]\n", end=ONCE.format(code))
        ended = run(tmp_path, "zypper")[-2]
        assert (ended["exit_code"], ended["error"]) == (0, "")
        assert len(calls(tmp_path, OURS)) == times

    def test_a_failure_after_an_update_of_zypper_itself_is_told(self, tmp_path: Path) -> None:
        words = f"(1/1) Installing: a-2-1.noarch [done]\n{FAILED.replace('b-2', 'a-2')}"
        says(tmp_path, "install", words, end=f"{ONCE.format(103)}; exit 8")
        ended = run(tmp_path, "zypper")[-2]
        assert (ended["exit_code"], ended["cause"]) == (8, "maintainer-script")

    def test_what_is_left_after_an_update_of_zypper_itself_is_told_with_its_reason(self, tmp_path: Path) -> None:
        says(tmp_path, "install", "(1/1) Installing: a-2-1.noarch [done]\n", end=': >"$FP_JOB_DIR/stop"; exit 103')
        ended = run(tmp_path, "zypper")[-2]
        assert (ended["exit_code"], len(calls(tmp_path, OURS))) == (1, 1)
        assert "the rest was not installed: the run was asked to stop" in str(ended["error"])

    def test_it_is_not_run_again_without_an_end(self, tmp_path: Path) -> None:
        says(tmp_path, "install", "(1/1) Installing: a-2-1.noarch [done]\n", end="exit 103")
        assert run(tmp_path, "zypper")[-2]["exit_code"] == 0
        assert len(calls(tmp_path, OURS)) == 3

    @pytest.mark.parametrize("accepts", ["", "yes"])
    def test_licences_are_accepted_only_if_that_is_allowed(self, tmp_path: Path, accepts: str) -> None:
        says(tmp_path, "install", "(1/1) Installing: a-2-1.noarch [done]\n")
        assert run(tmp_path, "zypper", accept_licences=accepts)[-2]["exit_code"] == 0
        asked = calls(tmp_path, " install ")
        assert len(asked) > 2
        assert {"--auto-agree-with-licenses" in line for line in asked} == {accepts == "yes"}

    def test_what_it_would_remove_is_a_removal(self, tmp_path: Path) -> None:
        gone = '<to-remove>\n<solvable type="package" name="b" edition="1-1" arch="i586"/></to-remove>'
        says(tmp_path, "simulate", SUMMARY.format(gone))
        events = run(tmp_path, "zypper")
        assert (events[1]["why"], events[1]["detail"]) == ("removals", "b.i586")

    def test_a_download_that_fails_is_told_with_its_reason(self, tmp_path: Path) -> None:
        curl = "Download (curl) error for 'http://x/a.rpm':\nError code: Connection failed\nError message: refused\n"
        says(tmp_path, "download", curl, end="exit 8")
        ended = run(tmp_path, "zypper")[-2]
        assert ended["cause"] == "fetch"
        assert "Error message: refused" in str(ended["error"])
        assert len(calls(tmp_path, "--non-interactive refresh")) == 1

    def test_a_lock_is_told_by_its_holder(self, tmp_path: Path) -> None:
        says(tmp_path, "install", "System management is locked by the application with pid 7 (x).\n", end="exit 7")
        ended = run(tmp_path, "zypper", lock_wait_seconds="4")[-2]
        assert (ended["cause"], "pid 7" in str(ended["error"])) == ("lock", True)
