"""CI's second look at tests that failed beside others."""

import json

import pytest

from tests.ci import rerun

REPORT = '<testsuites><testsuite errors="{errors}" failures="{failures}" tests="9"/></testsuites>'


def test_a_test_that_passes_each_time_by_itself_is_fragile():
    runs: list[str] = []

    def run(test: str) -> bool:
        runs.append(test)
        return True

    assert rerun.rerun(1, ["a"], run) == ["a"]
    assert runs == ["a"] * rerun.TIMES


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_test_that_fails_again_once_fails_the_change(fails_at):
    runs = []

    def run(test):
        runs.append(test)
        return len(runs) != fails_at

    with pytest.raises(SystemExit, match="failed again: a"):
        rerun.rerun(1, ["a"], run)


@pytest.mark.parametrize(("failures", "tests"), [(0, []), (4, ["a", "b", "c", "d"]), (1, []), (1, ["a", "old"])])
def test_what_is_no_accident_is_not_run_again(failures, tests):
    with pytest.raises(SystemExit, match="not run again"):
        rerun.rerun(failures, tests, lambda _: pytest.fail("it was run"))


def test_failures_and_errors_count(tmp_path):
    report = tmp_path / "tests.xml"
    report.write_text(REPORT.format(errors=1, failures=2), encoding="utf-8")
    assert rerun.count_failures(report) == 3


def test_the_fragile_tests_are_named_beside_the_report(tmp_path, monkeypatch):
    report, failed = tmp_path / "tests.xml", tmp_path / "lastfailed"
    report.write_text(REPORT.format(errors=0, failures=2), encoding="utf-8")
    failed.write_text(json.dumps({"b": True, "a": True}), encoding="utf-8")
    monkeypatch.setattr(rerun, "FAILED", failed)
    monkeypatch.setattr(rerun, "rerun", lambda failures, tests: tests if failures == 2 else [])
    assert rerun.main([str(report)]) == 0
    assert (tmp_path / "fragile.txt").read_text(encoding="utf-8") == "a\nb\n"


@pytest.mark.slow
def test_a_real_test_is_run_by_itself(tmp_path):
    for name, word in (("good", "True"), ("bad", "False")):
        (tmp_path / f"test_{name}.py").write_text(f"def test_it():\n    assert {word}\n", encoding="utf-8")
    assert rerun.run_alone(str(tmp_path / "test_good.py"))
    assert not rerun.run_alone(str(tmp_path / "test_bad.py"))
