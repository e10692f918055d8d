"""dnf 4 and dnf 5 over recorded conversations: what is asked, and what is made of the answers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.errors import ListsUnread, ManagerBusy, ManagerError, ProtocolViolation, RepositoryError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import Classification
from tasks.machines.managers.registry import find_manager
from tasks.machines.managers.rpm.advisories import parse_severity
from tasks.machines.managers.rpm.dnf.assessment import parse_dnf_repository_ids
from tasks.machines.managers.rpm.dnf.transaction import parse_dnf_simulation, parse_transaction
from tasks.machines.managers.rpm.manager import DNF, DNF5, RpmManager
from tasks.machines.managers.rpm.system_state import UPDATER_UNITS
from tests.support.builders import make_facts, make_update
from tests.unit.managers.recordings import describe, recorded, wanted
from tests.unit.managers.test_apt import JSON, Replay, Successive

DEADLINE = Deadline.after(SystemClock(), 60)
MANAGER = RpmManager(DNF)


def conversation(name: str) -> ScriptResult:
    return recorded(f"{name}.rpm_assess", family="dnf")


def parse(result: ScriptResult, name: str = "dnf-4.14") -> PackageState:
    if name.startswith(("dnf5", "fedora")):
        return DNF5.parse_assessment(result)
    return DNF.parse_assessment(result)


def assess(name: str = "dnf-4.14") -> PackageState:
    return parse(conversation(name), name)


BOTH = pytest.mark.parametrize("tool", ["dnf-4.14", "dnf5-5.4"])


def with_section(name: str, text: str, exit_code: int = 0, of: str = "dnf-4.14") -> ScriptResult:
    """A recording in which one section is another."""
    records = [dict(record) for record in conversation(of).records if record.get("name") != name]
    section = {"kind": "section", "name": name, "text": text, "exit_code": exit_code, "stderr": ""}
    return ScriptResult((section, *records), 0)


REAL = ("dnf-4.14", "dnf-4.14-troubled", "dnf5-5.4", "dnf5-5.4-troubled")
READ = ("rhel-8", "rhel-9-aarch64", "rhel-10", "amazon-linux-2023", "centos-stream-9", "fedora-41")


@pytest.mark.parametrize("name", [*REAL, *READ])
def test_recorded_assessments(name: str) -> None:
    state = parse(conversation(name), name)
    assert state.updater_units == UPDATER_UNITS
    assert describe(replace(state, updater_units=())) == wanted(f"{name}.rpm_assess", family="dnf")


def updates_of(state: PackageState) -> Mapping[str, Update]:
    return {update.id: update for update in state.updates}


@BOTH
def test_what_advisories_say(tool: str) -> None:
    updates = updates_of(assess(tool))
    assert updates["kernel-core"].classification is Classification.CRITICAL
    assert updates["kernel-core"].cves == ("CVE-2026-0003", "CVE-2026-0004")
    assert updates["kernel-core"].requires_reboot
    sec = updates["lab-sec"]
    assert (sec.available, sec.security_version, sec.classification) == ("2.1-1", "2.0-1", Classification.SECURITY)
    assert sec.advisories == ("LAB-2026:5", "LAB-2026:4")
    assert updates["lab-slow"].classification is Classification.OTHER, "its description only speaks of security"
    assert updates["lab-reboot"].requires_reboot, "its advisory suggests a reboot"


@BOTH
def test_a_repository_without_advisories_says_nothing_about_security(tool: str) -> None:
    state = assess(tool)
    unclear = updates_of(state)["lab-noinfo"]
    assert (unclear.classification, unclear.cves) == (Classification.UNCLASSIFIED, None)
    assert any("without advisories: noinfo" in warning for warning in state.warnings)


@BOTH
def test_updates_that_no_advisory_is_about_are_named(tool: str) -> None:
    (remark,) = assess(tool).remarks
    assert remark.startswith("lab: no advisory is about lab-broken, ")
    assert "lab-noinfo" not in remark, "its repository has no advisories at all"


@BOTH
def test_what_is_held_back_is_reported(tool: str) -> None:
    state = assess(tool)
    assert {update.id for update in state.updates if update.held} == {"lab-held", "lab-excluded"}
    assert set(state.held) == {"lab-held", "lab-excluded"}
    assert updates_of(state)["lab-held"].classification is Classification.SECURITY


@BOTH
def test_new_packages_belong_to_the_update_that_needs_them(tool: str) -> None:
    updates = updates_of(assess(tool))
    for name in ("lab-extra", "lab-extra2"):
        assert (updates[name].installed, updates[name].group) == (None, "lab-needs")
        assert updates[name].classification is updates["lab-needs"].classification
    assert updates["lab-new"].installed is None, "it replaces lab-old"


def test_a_foreign_architecture_is_part_of_the_id() -> None:
    updates = updates_of(assess("rhel-8"))
    assert updates["glibc.i686"].group == updates["glibc"].group == "glibc"
    assert updates["kernel-core"].installed == "4.18.0-553.16.1.el8_10", "the newest of those installed"
    assert updates["kpatch-patch-4_18_0-553_5_1"].requires_reboot is False


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ()),
        ("repo id   repo name\nbaseos    BaseOS\n!epel     EPEL\n", ("baseos", "epel")),
        ("Updating Subscription Management repositories.\nrepo id repo name\nrhel-9 RHEL\n", ("rhel-9",)),
        ("base\nepel\n", ("base", "epel")),
        ("Not root, Subscription Management repositories not updated\n", ()),
        ("repo id repo name status\nbase CentOS-7 10072\nrepolist: 10072\n", ("base",)),
    ],
)
def test_repositories_are_listed(text: str, ids: tuple[str, ...]) -> None:
    assert parse_dnf_repository_ids(text) == ids


@pytest.mark.public_report("https://github.com/rocky-linux/peridot/issues/79")
def test_the_severities_of_rocky_are_read() -> None:
    words = ("SEVERITY_CRITICAL", "SEVERITY_UNKNOWN", "Important", "None")
    assert [parse_severity(word) for word in words] == ["CRITICAL", "", "Important", ""]


@pytest.mark.public_report("https://github.com/amazonlinux/amazon-linux-2023/issues/745")
def test_a_locked_release_leaves_the_judgement_open() -> None:
    (problem,) = assess("amazon-linux-2023").repository_problems
    assert "locked to release 2023.5.20240730" in problem.message
    assert problem.hides_fixes


@BOTH
@pytest.mark.parametrize(("text", "code", "count"), [("", 0, 1), ("lab\n", 0, 0), ("", 1, 0)])
def test_without_a_repository_of_the_distribution_the_judgement_is_open(
    tool: str, text: str, code: int, count: int
) -> None:
    result = with_section("distribution_repositories", text, code, of=tool)
    (installed,) = [record for record in result.records if record.get("name") == "installed"]
    installed = {**installed, "text": f"{installed['text']}bash\t0\t1.0\t1\tx86_64\t7\tLab\n"}
    others = [record for record in result.records if record.get("name") != "installed"]
    found = parse(ScriptResult((*others, installed), 0), tool).repository_problems
    assert [problem.hides_fixes for problem in found if "distribution itself (bash)" in problem.message] == [
        True
    ] * count


def test_of_a_package_whose_locks_let_an_update_come_nothing_is_held() -> None:
    lock = "/etc/dnf/plugins/versionlock.list:lab-plain-"
    free, kept = (parse(with_section("holds", f"{lock}{version}")) for version in ("*", "1.0-1.*"))
    assert ("lab-plain" in free.held, "lab-plain" in kept.held) == (False, True)
    assert (updates_of(free)["lab-plain"].held, updates_of(kept)["lab-plain"].held) == (False, True)


def test_advisories_about_replacements_count() -> None:
    (new,) = [update for update in assess().updates if update.id == "lab-new"]
    text = f"""  Update ID: X
       Type: security
   Severity: Critical
      Files: lab-new-{new.available}.{new.arch}.rpm
"""
    found = updates_of(parse(with_section("other_advisories", text)))["lab-new"]
    assert (found.classification, found.advisories, found.needed_by) == (Classification.CRITICAL, ("X",), "")


def test_advisories_that_the_machine_cannot_unpack_are_told() -> None:
    state = parse(with_section("lacking_unpackers", "zstd\nrm -rf\n"), "dnf-4.14")
    (warning,) = set(state.warnings) - set(assess().warnings)
    assert "the machine lacks zstd." in warning


@BOTH
def test_another_vendor_is_told(tool: str) -> None:
    assert updates_of(assess(tool))["lab-vendor"].vendor_change == "Lab -> Other Vendor"


def test_an_interrupted_transaction_may_be_repaired() -> None:
    state = assess("dnf-4.14-troubled")
    assert state.repairable
    beside = "lab-sec 2.0-1 is installed beside its older version lab-sec-1.0-1.noarch since 2026-11-22 14:18 UTC"
    assert state.problems == (beside,)
    assert [problem.repository for problem in state.repository_problems] == ["bad"]
    assert "lab-plain" in updates_of(state), "the other repositories were read"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("dnf-4.14-bare", RepositoryError, "no package repository is enabled"),
        ("dnf-4.14-unread", ListsUnread, "never read"),
        ("dnf-4.14-unreachable", RepositoryError, "404"),
        ("dnf-4.14-locked", ManagerBusy, "locked by"),
        ("dnf5-5.4-bare", RepositoryError, "no package repository is enabled"),
        ("dnf5-5.4-unread", ListsUnread, "never read"),
        ("dnf5-5.4-unreachable", RepositoryError, "404"),
    ],
)
def test_without_an_answer_nothing_counts_as_up_to_date(name: str, error: type[ManagerError], words: str) -> None:
    with pytest.raises(error, match=words):
        assess(name)


def test_a_refresh_that_never_got_the_lock_is_busy() -> None:
    with pytest.raises(ManagerBusy):
        parse(with_section("update", "metadata already locked by 7", 200))


def test_a_dnf_that_cannot_start_is_not_a_machine_without_repositories() -> None:
    answer = with_section("repositories", "", 1)
    said = "Config error: [Errno 30] Read-only file system: '/var/log/dnf.log'"  # on a real machine
    first = dict(answer.records[0]) | {"stderr": said}
    with pytest.raises(ManagerError, match="Read-only file system") as caught:
        parse(ScriptResult((first, *answer.records[1:]), 0))
    assert not isinstance(caught.value, RepositoryError)


def test_an_unreadable_database_is_a_problem_and_no_error() -> None:
    state = parse(with_section("installed", "", 1))
    assert (state.updates, state.repairable) == ((), True)
    assert state.problems[0].startswith("rpm can't read its database")
    assert state.reboot.answer.value == "unknown"


def test_work_in_progress_is_not_called_broken() -> None:
    result = conversation("dnf-4.14-troubled")
    lock = {"kind": "lock", "path": "/var/lib/rpm/.rpm.lock", "pid": 77, "name": "dnf"}
    state = parse(ScriptResult((*result.records, lock), 0))
    assert (state.problems, state.unfinished, state.at_work) == ((), (), "dnf (pid 77)")
    reading = dict(lock) | {"path": "/var/cache/dnf/metadata_lock.pid"}
    assert parse(ScriptResult((*result.records, reading), 0)).at_work == ""


def test_an_assessment_is_one_question() -> None:
    replay = Replay(conversation("dnf-4.14"))
    MANAGER.assess(replay, refresh=True, deadline=DEADLINE)
    MANAGER.assess(replay, refresh=False, deadline=DEADLINE)
    assert [(script.name, script.read_only, dict(script.params)) for script in replay.asked] == [
        ("rpm_assess", True, {"refresh": "yes", "lock_wait_seconds": "60", "refresh_seconds": "300"}),
        ("rpm_assess", True, {"lock_wait_seconds": "60"}),
    ]


def test_packages_that_change_as_they_are_read_are_read_again() -> None:
    records = (
        dict(each) | ({"changed": True} if each["kind"] == "state" else {}) for each in conversation("dnf-4.14").records
    )
    machine = Successive(ScriptResult(tuple(records), 0), conversation("dnf-4.14"))
    assert MANAGER.assess(machine, refresh=True, deadline=DEADLINE).at_work == ""
    assert len(machine.asked) == 2


@pytest.mark.parametrize("name", ["dnf", "dnf5"])
def test_the_machines_manager_is_found(name: str) -> None:
    assert find_manager(make_facts(managers=(name,))).name == name


@BOTH
@settings(max_examples=80)
@given(data=st.data())
def test_garbled_answers_raise_only_our_errors(tool: str, data: st.DataObject) -> None:
    records = [dict(record) for record in conversation(f"{tool}-troubled").records]
    victim: dict[str, Any] = data.draw(st.sampled_from(records))
    key = data.draw(st.sampled_from(sorted(victim)))
    if key == "text" and data.draw(st.booleans()):
        text, cut = str(victim[key]), data.draw(st.integers(0, 400))
        odd = [text[cut:], text[:cut], text.replace("|", "\n"), text.replace("\t", "|"), text[::-1]]
        victim[key] = data.draw(st.sampled_from(odd))
    else:
        victim[key] = data.draw(JSON)
    if data.draw(st.booleans()):
        records.pop(data.draw(st.integers(0, len(records) - 1)))
    try:
        state = parse(ScriptResult(tuple(records), 0), tool)
    except (ManagerError, ProtocolViolation) as error:
        assert error.message  # noqa: PT017 (some garbage is harmless, so not every example raises)
    else:
        assert state.manager in {"dnf", "dnf5"}


def wish(*specs: str) -> list[Update]:
    pairs = (spec.split("=") for spec in specs)
    return [make_update(id=name, name=name, arch="noarch", available=version) for name, version in pairs]


def simulated(name: str) -> ScriptResult:
    return recorded(f"{name}.rpm_simulate", family="dnf")


@BOTH
def test_a_simulation_tells_changes_and_downloads(tool: str) -> None:
    answer = parse_dnf_simulation(simulated(tool), wish("lab-plain=2.0-1", "lab-dep-a=2.0-1", "lab-needs=2.0-1"))
    assert not answer.refusal
    assert answer.changes["lab-dep-b"] == "2.0-1"
    assert answer.changes["lab-extra2"] == "2.0-1"
    assert len(answer.changes) == 7
    assert (answer.download_bytes or 0) > 26174


def test_what_is_downloaded_already_is_not_downloaded() -> None:
    result = simulated("dnf-4.14")
    path = "/var/cache/dnf/lab-0123456789abcdef/packages/lab-plain-2.0-1.noarch.rpm"
    whole = parse_dnf_simulation(result, wish("lab-plain=2.0-1")).download_bytes or 0
    for size, saved in (("26174", 26174), ("11", 0)):
        cached = {"kind": "section", "name": "cached", "text": f"{size}\t{path}\n", "exit_code": 0}
        answer = parse_dnf_simulation(ScriptResult((*result.records, cached), 0), wish("lab-plain=2.0-1"))
        assert answer.download_bytes == whole - saved, "half a file does not count"


@BOTH
def test_a_conflict_names_the_updates(tool: str) -> None:
    asked = wish("lab-plain=2.0-1", "lab-removes=2.0-1", "lab-broken=2.0-1")
    answer = parse_dnf_simulation(simulated(f"{tool}-conflict"), asked)
    assert (answer.changes, set(answer.named)) == ({}, {"lab-plain", "lab-removes", "lab-broken"})
    assert "nothing provides nowhere-to-be-found" in answer.refusal


@BOTH
def test_unknown_and_excluded_updates_are_told_apart(tool: str) -> None:
    answer = parse_dnf_simulation(
        simulated(f"{tool}-unknown"), wish("lab-plain=9.9-1", "lab-excluded=2.0-1", "lab-sec=2.1-1")
    )
    assert list(answer.refused) == ["lab-plain"]
    assert "exclude" in answer.refusal
    assert "lab-excluded" in answer.named


@BOTH
def test_what_is_replaced_counts_as_removed(tool: str) -> None:
    answer = parse_dnf_simulation(simulated(f"{tool}-replaced"), wish("lab-new=2.0-1"))
    assert (answer.removals, dict(answer.changes)) == (("lab-old",), {"lab-new": "2.0-1"})


def test_a_simulation_that_never_got_the_lock_is_busy() -> None:
    with pytest.raises(ManagerBusy):
        parse_dnf_simulation(simulated("dnf-4.14-locked"), wish("lab-plain=2.0-1"))


def test_a_repository_that_is_skipped_refuses_nothing() -> None:
    result = simulated("dnf-4.14")
    records = [dict(record) for record in result.records]
    records[0]["text"] = f"Error: Cache-only enabled but no cache for 'dead'\n{records[0]['text']}"
    assert not parse_dnf_simulation(ScriptResult(tuple(records), 0), wish("lab-plain=2.0-1")).refusal


def test_nothing_to_do_is_no_agreement() -> None:
    records = (
        {"kind": "section", "name": "simulation", "text": "Nothing to do.\n", "exit_code": 0},
        {"kind": "state", "native": "x86_64"},
    )
    assert parse_dnf_simulation(ScriptResult(records, 0), wish("lab-plain=2.0-1")).refusal


def test_a_simulation_asks_for_exact_packages() -> None:
    replay = Replay(simulated("dnf-4.14"))
    result = MANAGER.simulate(replay, wish("lab-plain=2.0-1"), deadline=DEADLINE)
    assert (result.download_bytes or 0) > 26174
    assert dict(replay.asked[0].params) == {
        "packages": ("lab-plain-2.0-1.noarch",),
        "keep": (),
        "downgrades": "",
        "accept_licences": "",
        "lock_wait_seconds": "60",
    }


def test_a_foreign_package_that_goes_beside_a_new_version_of_the_native_one_is_a_removal() -> None:
    rows = ("kernel-core.x86_64 1-1 will be erased", "kernel-core.x86_64 3-1 will be installed")
    more = ("a.i686 1-1 will be obsoleted", "a.x86_64 1-1 will be upgraded", "a.x86_64 2-1 will be an upgrade")
    changed = ("b.x86_64 1-1 will be obsoleted", "b.noarch 2-1 will be an upgrade")
    text = "".join(f"---> Package {row}\n" for row in (*rows, *more, *changed))
    assert parse_transaction(text).removals == ("a",)
