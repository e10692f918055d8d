"""The checks that look for committed secrets, insecure code and advisories: what they find, and what they let pass."""

from pathlib import Path
from typing import Any

import pytest

from tests.ci import advisories
from tests.ci.advisories import UNREACHABLE, judge, reachable
from tests.ci.committed_secrets import findings, unknown
from tests.ci.insecure_code import Finding, verdict

# put together here, so that this file holds none of them
PLANTED = {
    "AWS Access Key": "key = " + "AKIA" + "Q3EGRIZ7OJ5N2YTW",
    "Private Key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "GitHub Token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "Basic Auth Credentials": "postgresql://fleet:" + "v3ryl0ngs3cr3t" + "@db.example.org/fleet",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9."
    + "eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", ["docs/page.md", "tests/unit/test_x.py"])
def test_a_planted_secret_is_found(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(f"first line\n{PLANTED[kind]}\n")

    found = findings([name], tmp_path)

    assert [line.partition(" looks")[0] for line in unknown(found, {})] == [f"{name}:2:"]
    assert unknown(found, {name: list(found[name])}) == []  # once it is listed
    assert unknown(found, {"other.md": list(found[name])})  # in another file it is not


def test_a_password_is_found_in_programs_and_passes_in_tests(tmp_path: Path) -> None:
    text = "password = " + '"correct horse battery"\n'
    for name in ("tasks/x.py", "tests/x.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)

    assert list(findings(["tasks/x.py", "tests/x.py"], tmp_path)) == ["tasks/x.py"]


def test_words_about_secrets_are_none(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("credential: key:~/.ssh/id_ed25519\nprivilege_password: env:SUDO\n")
    assert findings(["fleet.yaml"], tmp_path) == {}


def _answer(**advisory: Any) -> dict[str, Any]:
    found = {"id": "PYSEC-2024-1", "aliases": ["CVE-2024-9"], "fix_versions": ["2.0"], **advisory}
    return {"dependencies": [{"name": "aaa", "version": "1.0", "vulns": [found]}]}


def test_an_advisory_is_told_unless_it_was_accepted() -> None:
    assert judge(_answer(), {}).found == ["aaa 1.0: PYSEC-2024-1; mended in 2.0"]
    assert judge(_answer(fix_versions=[]), {}).found == ["aaa 1.0: PYSEC-2024-1; mended in no version yet"]
    assert judge(_answer(), {"PYSEC-2024-1": "why"}).found == []
    assert judge(_answer(), {"CVE-2024-9": "why"}).found == []
    assert judge(_answer(), {"CVE-2024-8": "why"}).found != []


def test_a_package_nobody_knows_is_not_taken_for_a_good_one() -> None:
    answer = {"dependencies": [{"name": "aaa", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}]}
    told = judge(answer, {})
    assert (told.asked, told.found, told.unknown) == (1, [], ["aaa"])


def test_a_database_counts_only_when_it_knows_what_is_known() -> None:
    assert reachable(judge(_answer(), {}))
    assert not reachable(judge({"dependencies": [{"name": "pip", "skip_reason": "not found"}]}, {}))
    assert not reachable(judge({"dependencies": [{"name": "pip", "version": "24.0", "vulns": []}]}, {}))


def test_an_excuse_covers_its_line_alone_and_does_not_outlive_it() -> None:
    one = Finding("a.py", 3, "B603", "subprocess call", "run(words)")
    excuse = {"file": "a.py", "rule": "B603", "line": "run(words)", "why": "fixed"}
    assert verdict([one], []) == ["a.py:3: B603 subprocess call: run(words)"]
    assert verdict([one], [excuse]) == []
    other = Finding("a.py", 9, "B603", "subprocess call", "run(given)")
    assert verdict([one, other], [excuse]) == ["a.py:9: B603 subprocess call: run(given)"]
    assert verdict([], [excuse]) == ["pyproject.toml: B603 in a.py is excused ('run(words)') and isn't found any more"]
    assert verdict([], [excuse], lambda _: False) == []  # its file is gone


@pytest.mark.parametrize(
    ("answers", "code", "told"),
    [
        (["ConnectionError: no way"], UNREACHABLE, "NOT CHECKED against advisories: ConnectionError: no way"),
        ([{"dependencies": []}], UNREACHABLE, "the package index in use knows no advisories"),
        ([_answer(), "ReadTimeout"], UNREACHABLE, "NOT CHECKED against advisories: ReadTimeout"),
        ([_answer(), _answer()], 1, "advisory: aaa 1.0: PYSEC-2024-1"),
        ([_answer(), {"dependencies": [{"name": "b", "version": "1", "vulns": []}]}], 0, ""),
    ],
)
def test_what_is_not_known_is_told_and_what_is_found_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answers: list[Any], code: int, told: str
) -> None:
    coming = iter(answers)
    monkeypatch.setattr(advisories, "_ask", lambda *_: next(coming))
    assert advisories.main() == code
    printed = capsys.readouterr().out
    assert told in printed
    assert bool(printed) is bool(told)
