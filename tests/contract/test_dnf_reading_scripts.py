"""What rpm_assess.sh and rpm_simulate.sh do with dnf 4 and dnf 5, over stand-ins for the tools."""

import gzip
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptResult
from tasks.machines.managers.rpm.advisories import parse_advisories
from tasks.machines.managers.rpm.dnf.holds import parse_holds
from tasks.machines.managers.rpm.dnf.transaction import parse_dnf_simulation
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tasks.machines.transport.script_library import compose_script, load_script
from tests.support.builders import make_update

CLOCK = SystemClock()
RPM = """#!/bin/sh
case $* in
  *_arch*_dbpath*) echo "x86_64:{place}/database" ;;
  *--eval*) echo x86_64 ;;
  *NAME*) printf 'bash\\t0\\t1.0\\t1\\tx86_64\\t7\\tLab\\n' ;;
esac
"""
DNF = """#!/bin/sh
echo "$*" >>"{place}/asked"
[ "$(grep -c . "{place}/asked")" -gt {locked} ] || {{ echo "metadata already locked by 7" >&2; exit 200; }}
case $* in
  *"updateinfo list"*) cat "{place}/newer" ;;
  *updateinfo*) cat "{place}/advisories" ;;
  *--upgrades*) echo 'bash|0|2.0|1|x86_64|lab|10|bash|Lab' ;;
  *repolist*) printf 'repo id repo name\\nlab lab\\n' ;;
  *upgrade | *install*) cat "{place}/transaction"; exit 1 ;;
esac
"""
ADVISORIES = """\
===============================================================================
  Important: bash security update
===============================================================================
  Update ID: RHSA-2026:1
       Type: security
Description: a text
           : Update ID: RHSA-2026:2
       Bugs: 1 - a bug
       CVEs: CVE-2026-0001
           : CVE-2026-0002
      Files: bash-2.0-1.x86_64.rpm
"""
TABLE = """\
Updating and loading repositories:
Package    Arch   Version Repository      Size
Upgrading:
 bash      x86_64 0:2.0-1 lab         19.5 KiB
   replacing bash x86_64 0:1.0-1 <unknown> 19.5 KiB
Installing dependencies:
 new       noarch 3:2.0-1 lab         19.5 KiB
   replacing old noarch 0:1.0-1 <unknown> 19.5 KiB
Removing unused dependencies:
 gone      noarch 1.0-1   lab         19.5 KiB
Installing groups:
 Some group
Skipping packages with conflicts:
 skipped   noarch 2.0-1   lab         19.5 KiB

Transaction Summary:
 Installing:         1 package
Operation aborted by the user.
"""


class Machine:
    """A folder with rpm's database and the tools, and the transport to it."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        (place / "database").mkdir()
        (place / "database/rpmdb.sqlite").write_text("before\n")
        (place / "advisories").write_text(ADVISORIES)
        (place / "newer").write_text("RHSA-2026:1 Important/Sec. bash-2.0-1.x86_64\n")
        (place / "transaction").write_text("---> Package bash.x86_64 2.0-1 will be an upgrade\n")
        self.tool("rpm", RPM.format(place=place))
        self.tool("systemctl", "#!/bin/sh\n")
        self.tool("sleep", "#!/bin/sh\n")
        self.dnf()
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
        self.transport = PosixShell(
            LocalShellChannel(CLOCK), machine="here", privilege=PrivilegeEscalator(PrivilegeMethod.NONE), clock=CLOCK
        )

    def tool(self, name: str, text: str) -> None:
        """Put a stand-in there."""
        (self.place / name).write_text(text)
        (self.place / name).chmod(0o755)

    def dnf(self, locked: int = 0, name: str = "dnf") -> None:
        """Let so many calls of dnf find its lock taken before the others succeed."""
        self.tool(name, DNF.format(place=self.place, locked=locked))

    @property
    def asked(self) -> list[str]:
        """What dnf was called with."""
        return (self.place / "asked").read_text().splitlines()

    def run(self, name: str, *packages: str, package: str = "dnf", wait: str = "0") -> ScriptResult:
        """Run a script."""
        params: dict[str, ScriptParameter] = {"packages": packages, "lock_wait_seconds": wait}
        script = Script(name, params, package=f"tasks.machines.managers.rpm.{package}")
        return self.transport.run_script(script, deadline=Deadline.after(CLOCK, 60))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def text_of(result: ScriptResult, name: str) -> str:
    (section,) = [each for each in result.find_records("section") if each["name"] == name]
    return str(section["text"])


def test_a_lock_is_waited_for(machine: Machine) -> None:
    machine.dnf(locked=3)
    result = machine.run("rpm_assess", wait="60")
    assert "bash|0|2.0|1" in text_of(result, "upgrades")
    assert all("exit_on_lock=True" in call and call.startswith("-C ") for call in machine.asked)


def test_without_time_a_lock_is_told(machine: Machine) -> None:
    machine.dnf(locked=100)
    codes = {each["name"]: each["exit_code"] for each in machine.run("rpm_assess").find_records("section")}
    assert codes["upgrades"] == codes["advisories"] == codes["transaction"] == 200


def test_of_an_advisory_only_its_fields_are_sent(machine: Machine) -> None:
    text = text_of(machine.run("rpm_assess"), "advisories")
    assert [line.strip() for line in text.splitlines()] == [
        "Update ID: RHSA-2026:1",
        "Type: security",
        "CVEs: CVE-2026-0001",
        ": CVE-2026-0002",
        "Files: bash-2.0-1.x86_64.rpm",
    ]


def test_a_database_that_changes_meanwhile_is_told(machine: Machine) -> None:
    (state,) = machine.run("rpm_assess").find_records("state")
    assert (state["changed"], state["native"]) == (False, "x86_64")
    write = f'#!/bin/sh\necho after >"{machine.place}/database/rpmdb.sqlite"\n'
    machine.tool("dnf", write)
    (state,) = machine.run("rpm_assess").find_records("state")
    assert state["changed"] is True


def test_an_assessment_tells_when_the_system_began(machine: Machine) -> None:
    (reboot,) = machine.run("rpm_assess").find_records("reboot")
    began, kernel = reboot["boot_time"], os.uname().release
    assert isinstance(began, int)
    assert 1_500_000_000 < began <= CLOCK.now().timestamp()
    assert reboot["kernel"] == kernel


def test_a_name_that_dnf_would_take_for_an_option_never_reaches_it(machine: Machine) -> None:
    lines = ("-x.noarch 1-1", "a*.noarch 1-1", "good.noarch 1-1")
    text = "".join(f"---> Package {line} will be installed\n" for line in lines)
    (machine.place / "transaction").write_text(text)
    machine.run("rpm_simulate", "bash-2.0-1.x86_64")
    (asked,) = [call for call in machine.asked if "repoquery" in call]
    assert asked.endswith(" good-1-1.noarch")


def test_a_table_of_dnf5_is_read(machine: Machine) -> None:
    machine.dnf(name="dnf5")
    (machine.place / "transaction").write_text(TABLE)
    result = machine.run("rpm_simulate", "bash-2.0-1.x86_64", package="dnf5")
    answer = parse_dnf_simulation(result, [make_update(id="bash", name="bash", arch="x86_64", available="2.0-1")])
    assert not answer.refusal
    assert dict(answer.changes) == {"bash": "2.0-1", "new": "3:2.0-1"}
    assert answer.removals == ("old", "gone")


def sourced(words: str, package: str, *arguments: str) -> str:
    """What a function of the scripts prints."""
    text = compose_script(Script("dnf_family", package=package), load_script)
    done = subprocess.run(
        ["sh", "-c", f"{text}\n{words}", "sh", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_an_old_file_of_an_advisory_whose_epoch_is_not_told_is_left_out(machine: Machine) -> None:
    """Recorded from dnf 4.14: its descriptions have no epochs, its list has them and only what is newer."""
    files = (
        "      Files: bash-9.0-1.x86_64.rpm\n           : bash-2.0-1.x86_64.rpm\n           : new-1.0-1.noarch.rpm\n"
    )
    (machine.place / "advisories").write_text(ADVISORIES.rpartition("      Files")[0] + files)
    (machine.place / "newer").write_text("AN ID WITH BLANKS Important/Sec. bash-3:2.0-1.x86_64\n")
    (advisory,) = parse_advisories(text_of(machine.run("rpm_assess"), "advisories"))
    assert advisory.packages == {("bash", "x86_64"): ("9.0-1", "2.0-1"), ("new", "noarch"): ("1.0-1",)}

    machine.tool("rpm", RPM.format(place=machine.place).replace("bash\\t0", "bash\\t3"))
    (advisory,) = parse_advisories(text_of(machine.run("rpm_assess"), "advisories"))
    assert advisory.packages == {("bash", "x86_64"): ("2.0-1",), ("new", "noarch"): ("1.0-1",)}


def test_the_files_of_repositories_tell_about_advisories(machine: Machine) -> None:
    for name, kinds in (
        ("lab-0123456789abcdef", ("primary", "updateinfo")),
        ("my-repo-0123456789abcdef", ("primary",)),
    ):
        folder = machine.place / name / "repodata"
        folder.mkdir(parents=True)
        data = (f'<data type="{kind}"><location href="repodata/1-{kind}.xml.gz"/></data>' for kind in kinds)
        (folder / "repomd.xml").write_text(f"<repomd>{''.join(data)}</repomd>")
    packages = "".join(
        f'<package name="{name}" version="2" release="1" epoch="0" arch="noarch"><filename>f</filename>{tail}</package>'
        for name, tail in (
            ("bash", "<reboot_suggested>True</reboot_suggested>"),
            ("bash", "<reboot_suggested>False</reboot_suggested>"),
            ("other", "<reboot_suggested>True</reboot_suggested>"),
        )
    )
    file = machine.place / "lab-0123456789abcdef/repodata/1-updateinfo.xml.gz"
    file.write_bytes(gzip.compress(f"<updates>{packages}</updates>".encode()))
    machine.tool("rpm", "#!/bin/sh\necho bash\n")
    sources = sourced('fp_advisory_sources "$1"', "tasks.machines.managers.rpm.dnf", str(machine.place))
    assert sorted(sources.splitlines()) == ["lab\ttrue", "my-repo\tfalse"]
    suggested = sourced('fp_reboot_suggested "$1"', "tasks.machines.managers.rpm.dnf", str(machine.place))
    assert suggested == "bash\t0\t2\t1\tnoarch\n", "other is not installed"

    index = machine.place / "my-repo-0123456789abcdef/repodata/repomd.xml"
    index.write_text('<repomd><data type="updateinfo"><location href="repodata/x.xml.zst"/></data></repomd>')
    empty = machine.place / "empty"
    empty.mkdir()
    own = 'sort() { command -p sort "$@"; }; awk() { command -p awk "$@"; }'
    script = f'{own}; PATH=$2; fp_lacking_unpackers "$1"'
    lacking = sourced(script, "tasks.machines.managers.rpm.dnf", str(machine.place), str(empty))
    assert lacking == "gzip\nzstd\n"


def test_a_reboot_that_an_advisory_suggests_as_a_whole_is_not_taken_for_one_of_the_package_before_it(
    machine: Machine,
) -> None:
    """Pulp and Satellite publish it so (createrepo_c): in the advisory itself, before its list of packages."""
    machine.tool("rpm", "#!/bin/sh\nprintf '%s\\n' bash kernel-core\n")
    row = '<package name="{}" version="2" release="1" epoch="0" arch="noarch"><filename>f</filename>{}</package>'
    marked = "<reboot_suggested>True</reboot_suggested>"
    text = f"""<updates><update><pkglist><collection>{row.format("bash", "")}</collection></pkglist></update>
    <update><id>X</id>{marked}<references/><pkglist>{row.format("kernel-core", marked)}</pkglist></update></updates>"""
    (machine.place / "updateinfo.xml").write_text(text)
    words = 'fp_find_reboot_suggestions <"$1"'
    suggested = sourced(words, "tasks.machines.managers.rpm.dnf", str(machine.place / "updateinfo.xml"))
    assert suggested == "kernel-core\t0\t2\t1\tnoarch\n"


UPDATEINFO = """<?xml version="1.0"?>
<updates>
  <update from="release-engineering@redhat.com" status="final" type="security" version="3">
    <id>RHSA-2026:7</id><title>Critical: new security update</title>
    <issued date="2026-11-01"/><updated date="2026-11-02 10:00:00"/><severity>Critical</severity>
    <references>
      <reference href="https://x/CVE-2026-0007" id="CVE-2026-0007" title="CVE-2026-0007" type="cve"/>
      <reference href="https://x/1" id="1" title="Bug" type="bugzilla"/>
    </references>
    <pkglist><collection short="c"><name>c</name>
      <package name="new" version="2" release="1" epoch="0" arch="noarch" src="s"><filename>f</filename></package>
      <package name="new" version="2" release="1" epoch="0" arch="s390x" src="s"><filename>f</filename></package>
    </collection></pkglist>
  </update>
  <update type='bugfix'><id>RHBA-2026:8</id>
    <pkglist><package name='bash' version='2' release='1' arch='x86_64'/></pkglist></update>
</updates>
"""
REPLACING = """---> Package new.noarch 2-1 will be installed
---> Package old.noarch 1-1 will be obsoleted
---> Package plain.noarch 1-1 will be upgraded
---> Package plain.noarch 2-1 will be an upgrade
---> Package changed.noarch 1-1 will be upgraded
---> Package changed.x86_64 2-1 will be an upgrade
---> Package needed.noarch 1-1 will be installed"""


def test_advisories_about_replacements_are_told(machine: Machine) -> None:
    folder = machine.place / "lab-0123456789abcdef/repodata"
    folder.mkdir(parents=True)
    (folder / "repomd.xml").write_text(
        '<repomd><data type="updateinfo"><location href="repodata/u.xml"/></data></repomd>'
    )
    (folder / "u.xml").write_text(UPDATEINFO)
    words = "transaction=$2 cache_folder=$1; replacements; echo; other_advisories"
    names, text = sourced(words, "tasks.machines.managers.rpm.dnf", str(machine.place), REPLACING).split("\n\n")
    assert sorted(names.split()) == ["changed.x86_64", "new.noarch"]
    (advisory,) = parse_advisories(text)
    assert (advisory.id, advisory.kind, advisory.severity, advisory.cves) == (
        "RHSA-2026:7",
        "security",
        "Critical",
        ("CVE-2026-0007",),
    )
    assert (advisory.published, advisory.packages) == (
        datetime(2026, 11, 2, 10, tzinfo=UTC),
        {("new", "noarch"): ("2-1",)},
    )


def test_exclusions_of_several_lines_are_read(machine: Machine) -> None:
    file = machine.place / "dnf.conf"
    file.write_text("[main]\nexclude=\n  bash\n\tglibc*\n# excludepkgs=no\ngpgcheck=1\nincludepkgs = a b\nexclude=\n")
    text = sourced('fp_exclusions "$1" "$1.not-there"', "tasks.machines.managers.rpm.dnf", str(file))
    assert parse_holds(text).excluded == ("bash", "glibc*")
    assert [line.removeprefix(f"{file}:") for line in text.splitlines()][1:] == ["includepkgs=a b"]
