"""What is broken in rpm's database: what keeps every update away, and what costs one package only."""

from dataclasses import replace

import pytest

from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Compliance
from tasks.machines.managers.rpm.manager import DNF
from tests.support.builders import make_assessment
from tests.unit.managers.test_dnf import conversation, parse

MACRO = "error: /etc/rpm/macros.atomic-config: line 3: Macro %undefine is a built-in (%define)"  # Atomicorp/gvm 71
SKIPPED = "error: rpmdbNextIterator: skipping h#     123 Header V4 RSA/SHA256 Signature, key ID fd431d51: BAD"
LEFT = "lab-sec-1.0-1.noarch\terror: %preun(lab-sec-1.0-1.noarch) scriptlet failed, exit status 1\n"


def with_errors(*lines: str) -> ScriptResult:
    """A recording in which rpm, that lists the packages, complains."""
    records = [dict(record) for record in conversation("dnf-4.14").records]
    for record in records:
        if record.get("name") == "installed":
            record["stderr"] = "".join(f"{line}\n" for line in lines)
    return ScriptResult(tuple(records), 0)


def test_an_error_that_is_not_of_the_database_is_a_warning() -> None:
    healthy, state = parse(conversation("dnf-4.14")), parse(with_errors(MACRO, MACRO))
    assert state == replace(healthy, warnings=(f"rpm says: {MACRO}", *healthy.warnings))


@pytest.mark.parametrize(
    "line",
    [
        "error: rpmdb: BDB0113 Thread/process 1234/140 failed: BDB1507 Thread died in Berkeley DB library",
        "error: db5 error(-30973) from dbenv->failchk: BDB0087 DB_RUNRECOVERY: Fatal error, run database recovery",
        "error: cannot open Packages index using db5 -  (-30973)",
        "error: Unable to open sqlite database /var/lib/rpm/rpmdb.sqlite: unable to open database file",
        "error: sqlite failure: SELECT blob FROM Packages: database disk image is malformed",
    ],
)
def test_an_error_of_the_database_keeps_updates_away(line: str) -> None:
    state = parse(with_errors(MACRO, line))
    assert state.problems == (f"rpm can't read its database: {line}",)
    assert (state.repairable, state.can_install_others, state.updates) == (True, False, ())
    assert not state.interrupted


def test_a_record_that_rpm_skips_is_told_and_not_lost_by_a_repair() -> None:
    state = parse(with_errors(SKIPPED))
    assert (state.problems, state.repairable) == ((), False)
    (unseen,) = state.repository_problems
    assert (unseen.repository, unseen.message, unseen.hides_fixes) == ("rpm's database", SKIPPED, True)
    assessment = make_assessment(packages=replace(state, updates=()))
    assert assessment.compliance is Compliance.NOT_ASSESSED, "an update of that package is not seen"


def troubled(left_over: str) -> ScriptResult:
    section = {"kind": "section", "name": "left_over", "text": left_over, "exit_code": 0, "stderr": ""}
    return ScriptResult((*conversation("dnf-4.14-troubled").records, section), 0)


def test_an_old_version_that_a_transaction_could_not_remove_costs_itself() -> None:
    state = DNF.parse_assessment(troubled(LEFT))
    assert (state.can_install_others, state.repairable, state.interrupted) == (True, True, False)
    (problem,) = state.problems
    assert problem.startswith("lab-sec 2.0-1 is installed beside its older version lab-sec-1.0-1.noarch since 20")
    assert problem.endswith(": error: %preun(lab-sec-1.0-1.noarch) scriptlet failed, exit status 1")
    assert [package.failure for package in state.unfinished] == [LEFT.rstrip().partition("\t")[2]]


@pytest.mark.parametrize("left_over", ["", "other-1.0-1.noarch\t\n"])
def test_what_an_interrupted_transaction_left_keeps_updates_away(left_over: str) -> None:
    state = DNF.parse_assessment(troubled(left_over))
    assert (state.can_install_others, bool(state.problems), state.unfinished[0].failure) == (False, True, "")
    assert state.interrupted


def test_a_package_whose_last_script_failed_is_told_as_long_as_it_is_installed() -> None:
    words = "%post(lab-sec-2.0-1.noarch) scriptlet failed, exit status 3: no space left"
    text = f"lab-sec-2.0-1.noarch\t{words}\ngone-1.0-1.noarch\t%post(gone-1.0-1.noarch) scriptlet failed\n"
    section = {"kind": "section", "name": "failed_scripts", "text": text, "exit_code": 0, "stderr": ""}
    state = DNF.parse_assessment(ScriptResult((*conversation("dnf-4.14-troubled").records, section), 0))
    (told,) = state.failed_scripts
    assert told.startswith("lab-sec 2.0-1 is not set up since 20")
    assert told.endswith(f": {words}")


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("history", "whether the scripts of packages failed is not known: the history of transactions"),
        ("updaters", "which updaters may start is not known: the units of systemd"),
        ("priorities", "which repository comes first is not known: the priorities of repositories"),
    ],
)
def test_what_could_not_be_asked_is_told(name: str, meaning: str) -> None:
    section = {"kind": "section", "name": name, "text": "", "exit_code": 1, "stderr": "Error: database is locked\n"}
    records = (record for record in conversation("dnf-4.14-troubled").records if record.get("name") != name)
    state = DNF.parse_assessment(ScriptResult((*records, section), 0))
    assert f"{meaning} can't be read: Error: database is locked" in state.warnings
