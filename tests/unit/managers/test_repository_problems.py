"""Repositories that can't be read: which, why, and what to do. Nothing may show a password."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import RepositoryProblem
from tasks.machines.managers.repository_problems import MAX_PROBLEMS, build_repository_error, redact_complaint
from tasks.machines.managers.rpm.repositories import find_rpm_repository_problems
from tasks.steps.machine.package_state import keep_repository_problems
from tests.support.builders import START, make_package_state
from tests.unit.managers.recordings import DATA

SECRETS = ("tellnobody", "SECRET123", "user@", "word@")
KEY, RENEW, REACH, ADDRESS = "fingerprint", "renew its certificate", "(route, firewall, proxy)", "no longer published"
LOGIN, UNKNOWN = "asks for a login", "No certain remedy"
REMEDIES = {
    "dnf-4.14": {
        "badsum": "damaged files",
        "cert": RENEW,
        "dns": "DNS",
        "forbidden": UNKNOWN,
        "gone": ADDRESS,
        "mirrors": ADDRESS,
        "part": ADDRESS,
        "refused": REACH,
        "signed": UNKNOWN,
        "tls": UNKNOWN,
        "unauth": LOGIN,
        "unsigned": UNKNOWN,
    },
    "zypper-1.14.42-unreachable": {
        "Dns": "DNS",
        "Forbidden": UNKNOWN,
        "Gone repo": UNKNOWN,
        "Refused": REACH,
        "Tls": UNKNOWN,
        "Unauthorized": LOGIN,
    },
    "zypper-1.14.42-signatures": {"Repo badsum": "damaged files", "Repo signed": KEY, "Repo unsigned": UNKNOWN},
    "zypper-suse": {
        "container-suseconnect-zypp": "SUSEConnect",
        "SLE-Module-Basesystem15-SP6-Updates": RENEW,
        "repo-update": "no longer updated",
    },
    "dnf5": {"f43-development": ADDRESS, "netbird": UNKNOWN},
    "dnf-rhel": {"rhel-9-for-x86_64-baseos-rpms": RENEW, "rhui-baseos": RENEW, "": "Register the machine"},
    "yum-3.4.3": {"rhel-7-server-rpms": RENEW, "": "Register the machine"},
    "yum-3.4.3-ended": {"base": "CentOS Linux has ended"},
}


def said(name: str) -> str:
    return (DATA / "repositories" / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REMEDIES)
def test_each_repository_is_named_once_with_its_remedy_and_without_secrets(name: str) -> None:
    found = {problem.repository: problem for problem in find_rpm_repository_problems(said(name))}
    assert found.keys() == REMEDIES[name].keys()
    assert len(found) == len(find_rpm_repository_problems(said(name)))
    for repository, words in REMEDIES[name].items():
        assert words in found[repository].remedy, found[repository]
        assert not any(secret in str(found[repository]) for secret in SECRETS)


def test_the_message_is_the_line_that_tells_most() -> None:
    (dns, *_, tls, _) = find_rpm_repository_problems(said("zypper-1.14.42-unreachable"))
    assert str(dns) == "Dns: Connection failed: Could not resolve host: no.such.invalid"
    assert tls.message.startswith("Curl error 35: OpenSSL")
    *_, signed, _ = find_rpm_repository_problems(said("zypper-1.14.42-signatures"))
    assert signed.message.endswith("DD26B739 BD9DF843 EC25BC33 292DC7F4 7C383381")


def test_that_a_machine_is_not_registered_is_no_problem_by_itself() -> None:
    note = "This system is not registered with an entitlement server. You can use subscription-manager to register.\n"
    assert find_rpm_repository_problems(f"Updating Subscription Management repositories.\n{note}") == ()
    nothing = 'Error: There are no enabled repositories in "/etc/yum.repos.d".\n'
    assert [each.repository for each in find_rpm_repository_problems(note + nothing)] == ["", ""]


def test_a_mirror_that_fails_before_another_one_answers_is_no_problem() -> None:
    text = (
        " fedora        100% |   5.5 MiB/s |   1.4 MiB |  00m00s\n"
        ">>> Status code: 404 for https://mirror.example/repodata/repomd.xml (IP: 192.0.2.7)\n"
        "Repositories loaded.\n"
    )
    assert find_rpm_repository_problems(text) == ()
    assert find_rpm_repository_problems(text.splitlines()[1]) == ()


def test_repositories_that_are_only_listed_are_told_too() -> None:
    problems = find_rpm_repository_problems("Ignoring repositories: one, two\n")
    assert [problem.repository for problem in problems] == ["one", "two"]
    assert all(problem.remedy for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Metadata cache created.\n",
        "Repository 'good' is up to date.\nAll repositories\n",
        "lab                                             588 kB/s | 3.5 kB     00:00    \n",
        "lab                                             503  B/s | 404  B     00:01    \n",
        "mirror that timed out once                      407 kB/s |  12 MB     01:10 ETA\n",
        "base                                            | 500  B  00:00:00     \n",
    ],
)
def test_a_refresh_without_trouble_has_no_problem(text: str) -> None:
    assert find_rpm_repository_problems(text) == ()


def test_the_error_for_no_repository_at_all_has_the_most_frequent_remedy() -> None:
    problems = (
        RepositoryProblem("a", "no route", "reach"),
        RepositoryProblem("b", "bad key", "key"),
        RepositoryProblem("c", "bad key", "key"),
        RepositoryProblem("d", "bad key", "key"),
    )
    error = build_repository_error(problems)
    assert error.message == "a: no route; b: bad key; c: bad key; and 1 more"
    assert error.hint == "key"
    assert build_repository_error((), "curl: could not resolve host x\n").hint
    assert build_repository_error((), "").message


@given(st.lists(st.sampled_from([line for name in REMEDIES for line in said(name).splitlines()]), max_size=200))
def test_any_order_of_lines_gives_short_redacted_and_few_problems(lines: list[str]) -> None:
    problems = find_rpm_repository_problems("\n".join(lines))
    assert len(problems) <= MAX_PROBLEMS
    assert all(problem.remedy and problem.message and len(problem.message) <= 300 for problem in problems)
    assert not any(secret in str(problem) for problem in problems for secret in SECRETS)


@given(st.text())
def test_garbage_raises_nothing(text: str) -> None:
    for problem in find_rpm_repository_problems(text):
        assert "\n" not in str(problem)


@given(st.text("abcXYZ019%_~-.", min_size=6).map("s3cr3t".__add__))
def test_no_login_and_no_query_is_shown(secret: str) -> None:
    for text in (
        f"Error for https://me:{secret}@h.example/x: 403",
        f"[r|http://h.example/x?token={secret}] bad",
        f"'https://h/?{secret}'",
    ):
        assert secret not in redact_complaint(text)


def test_an_expired_key_of_a_repository_that_zypper_reads_is_no_problem() -> None:
    """As in https://github.com/ROCm/legacy-rocm-build/issues/1762."""
    text = """Warning: The gpg key signing file 'repomd.xml' has expired.
  Repository:       Radeon Open Compute (ROCM)
  Key Expires:      Sun Aug  1 02:51:18 2021 (EXPIRED)
  Subkey:           30C07AF01A6D36BA 2016-08-01 [expired: 2021-08-01]
"""
    assert find_rpm_repository_problems(text) == ()


@pytest.mark.parametrize(
    "words", ["metadata expired since 2022-01-04 09:42:11 CET.", "appears to be outdated. Consider"]
)
def test_a_mirror_that_is_no_longer_updated_is_a_problem(words: str) -> None:
    """The words of zypper since 1.14.58 (https://github.com/openSUSE/zypper/pull/464), and before."""
    (problem,) = find_rpm_repository_problems(f"Loading repository data...\nRepository 'Updates' {words}\n")
    assert (problem.repository, problem.hides_fixes) == ("Updates", True)
    assert "no longer updated" in problem.remedy


def test_of_one_repository_the_cause_that_the_refresh_told_is_kept_alone() -> None:
    slow, other = (RepositoryProblem(name, "it is too slow", "") for name in ("slow", "other"))
    state = make_package_state(repository_problems=(RepositoryProblem("slow", "it was never read", "Read it."), other))
    earlier = make_package_state(repository_problems=(slow,))
    assert keep_repository_problems(state, earlier, START).repository_problems == (slow, other)
    assert keep_repository_problems(state, None, START) == state
