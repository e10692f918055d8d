"""What dpkg would refuse, what it only remarks, and which file systems apt's hooks mount writable: real outputs."""

from dataclasses import replace

import pytest

from tasks.domain.errors import ManagerError, ScriptFailed
from tasks.domain.model import PackageState
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import FindingLevel
from tasks.machines.managers.apt.assessment import parse_apt_assessment
from tasks.machines.managers.apt.dpkg_refusals import find_refusals, find_remounted, parse_audit
from tasks.machines.managers.apt.output_parsers import build_apt_simulation_result
from tasks.machines.managers.script_output import ScriptSection, parse_sections
from tasks.rules.machine_checks.packages import check_packages, clear_passed_warnings
from tests.support.builders import make_update
from tests.unit.managers.recordings import recorded

MISSING = """\
The following packages are missing the md5sums control file in the
database, they need to be reinstalled:
 tzdata               time zone and daylight-saving time data
 {}xz-utils             XZ-format compression utilities

"""
HALF = """\
Another process has locked the database for writing, and might currently be
modifying it, some of the following problems might just be due to that.

The following packages are only half configured, probably due to problems
configuring them the first time.  The configuration should be retried using
dpkg --configure <package> or the configure menu option in dselect:
 lab-failing          lab-failing

"""
OVERRIDES = """\
root crontab 2755 /usr/bin/crontab
root casegrp 755 /opt/case
caseusr #4711 755 /opt/other place
"""
DAMAGED = """\
dpkg-query: unrecoverable fatal error, aborting:
 files list file for package 'tzdata' is missing final newline
"""


def assess(*changed: dict[str, object], without: str = "") -> PackageState:
    """Return the state of a healthy recording in which some sections are others."""
    names = {str(section["name"]) for section in changed} | {without}
    records = [record for record in recorded("debian-12.apt_assess").records if record.get("name") not in names]
    return parse_apt_assessment(ScriptResult((*records, *changed), 0))


def tell(name: str, text: str = "", exit_code: int = 0, stderr: str = "") -> dict[str, object]:
    return {"kind": "section", "name": name, "text": text, "exit_code": exit_code, "stderr": stderr}


def test_a_missing_md5sums_file_stops_nothing_and_is_told_once_and_whole() -> None:
    state = assess(tell("audit", MISSING.format("a-package-with-a-rather-long-name x\n ")))
    assert state.problems == ()
    (found,) = [each for each in check_packages(state, repair_allowed=False) if each.level is FindingLevel.REMARK]
    assert found.message == (
        "dpkg's database lacks the file md5sums of tzdata, a-package-with-a-rather-long-name, xz-utils: "
        "apt-get install --reinstall writes it anew"
    )


def test_sections_of_an_audit_are_read_on_their_own() -> None:
    problems, remarks = parse_audit(
        ScriptSection(0, HALF + MISSING.format("") + "The following packages smell:\n a   A\n")
    )
    assert problems == ("dpkg --audit: The following packages smell: a",)
    assert len(remarks) == 1
    assert parse_audit(ScriptSection(0, HALF)) == ((), ())
    failed = parse_audit(ScriptSection(2, "", "dpkg: error: x\n"))
    assert failed == (("dpkg --audit ended with 2: dpkg: error: x",), ())


def test_owners_that_are_gone_are_told_before_dpkg_refuses_every_transaction() -> None:
    groups = tell("groups", "crontab:x:101:\n", 2)
    state = assess(tell("overrides", OVERRIDES), tell("users", "", 2), groups)
    assert not state.repairable
    assert [problem.partition("its ")[2] for problem in state.problems] == [
        "statoverride of /opt/case has the group casegrp, which does not exist: dpkg-statoverride --remove /opt/case, "
        "or add that group",
        "statoverride of /opt/other place has the user caseusr, which does not exist: dpkg-statoverride --remove "
        "/opt/other place, or add that user",
    ]
    broken = ScriptSection(
        2, "", "dpkg-statoverride: unrecoverable fatal error, aborting:\n syntax error in statoverride file\n"
    )
    assert "syntax error in statoverride file" in find_refusals({"overrides": broken})[0]


def test_a_damaged_list_of_files_is_told_in_words_of_dpkg() -> None:
    (problem,) = assess(tell("files", "", 2, DAMAGED)).problems
    assert problem.endswith("aborting: files list file for package 'tzdata' is missing final newline")
    assert assess(tell("files", "", 1, "dpkg-query: no path found matching pattern /x\n")).problems == ()


@pytest.mark.parametrize("name", ["releases", "policy", "sources"])
def test_an_empty_answer_of_a_command_that_failed_is_an_error(name: str) -> None:
    words = "The value 'bullseye' is invalid for APT::Default-Release as such a release is not available in the sources"
    with pytest.raises(ManagerError, match=words):
        assess(tell(name, "", 100, f"E: {words}\n"))


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("lists", "how old the lists of the repositories are is not known: their files"),
        ("timers", "which updaters may start is not known: the timers of systemd"),
        ("periodic", "which updaters may start is not known: APT::Periodic"),
    ],
)
def test_what_a_command_that_failed_would_have_told_is_a_warning(name: str, meaning: str) -> None:
    assert f"{meaning} can't be read: no bus" in assess(tell(name, "", 1, "no bus\n")).warnings


def test_a_database_that_dpkg_cannot_read_is_told_with_the_cause() -> None:
    words = "dpkg-query: error: parsing file 'status' near line 39 package 'adduser':\n field name 'x' must"
    with pytest.raises(ManagerError, match="near line 39 package 'adduser': field name 'x' must"):
        parse_apt_assessment(ScriptResult((), 66, words))
    with pytest.raises(ScriptFailed, match="apt_kernels ended with 2: dpkg-query: error: parsing file"):
        parse_sections(ScriptResult((), 2, words), "apt_kernels")


def test_a_simulation_that_failed_without_a_known_error_is_no_answer() -> None:
    update = make_update()
    result = build_apt_simulation_result("Reading package lists...\nSegmentation fault\n", None, [update], 139)
    assert result.refusal == "apt-get ended with 139: Segmentation fault"
    assert build_apt_simulation_result("", None, [update], 1).refusal == "apt-get ended with 1"


@pytest.mark.parametrize("word", ["(a) ", "a=) ", "if "])
def test_no_hook_takes_long_to_read(word: str) -> None:
    """What is below a machine's configuration must not hold up the runs of others."""
    assert find_remounted(f"{word * 2000}xmount rw\n") == ()


def test_hooks_say_what_they_mount_writable() -> None:
    hooks = 'DPkg::Pre-Invoke "";\nDPkg::Pre-Invoke:: "mount -o remount,rw /usr; /bin/mount -o remount,rw /boot/";\n'
    assert {"/usr", "/boot"} <= {*find_remounted(hooks)}
    assert find_remounted('DPkg::Pre-Invoke:: "/usr/local/sbin/open-usr";\n  mount -o remount,rw "$place"\n') == ("*",)
    assert find_remounted('DPkg::Pre-Invoke:: "etckeeper pre-install";\nmount -o remount,ro /usr\n') == ()
    script = "  [ -w /usr ] || mount -o remount,rw /usr\nif mount -n -w '/boot'; then exit; fi\n"
    assert find_remounted(f"{script}ro) LC_ALL=C mount --rw /var ;;\n") == ("/usr", "/boot", "/var")


@pytest.mark.parametrize(
    "line",
    [
        "# never mount -o remount,rw /usr here",
        "echo mount -o remount,rw /usr",
        "grep -q 'mount rw /usr' /etc/rc.local",
        "mount | grep -w rw /usr",
        "umount /usr # it was rw",
        "mountpoint -q /usr && test rw /usr",
        "mount -o remount,ro /usr # not rw",
        "mount /dev/rw /usr",
    ],
)
def test_a_line_that_only_speaks_of_it_mounts_nothing(line: str) -> None:
    assert find_remounted(f'{line}\nDPkg::Pre-Invoke:: "{line}";\n') == ()


def test_a_package_that_the_run_has_mended_is_no_warning_at_its_end() -> None:
    broken = replace(assess(), problems=("case-brk 1.0 is half-configured",), can_install_others=True, repairable=True)
    (before,) = [each for each in check_packages(broken, repair_allowed=False) if each.level is FindingLevel.WARN]
    (after,) = clear_passed_warnings((before,), replace(broken, problems=(), can_install_others=False))
    assert after.level is FindingLevel.GOOD
    (other,) = clear_passed_warnings((before,), replace(broken, problems=("b 1 is half-configured",)))
    assert (other.level, "b 1 is" in other.message, "case-brk" in other.message) == (FindingLevel.WARN, True, False)
    assert clear_passed_warnings((before,), replace(broken, can_install_others=False)) == (before,)
