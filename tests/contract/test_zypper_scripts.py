"""How the scripts read what zypper prints on machines with unusual settings. The shapes are zypper 1.14.42's."""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.machines.transport.script_library import load_script

PACKAGE = "tasks.machines.managers.rpm.zypper"
COLOUR = "\x1b[22;27;39;49m"
CONFLICT = """Checking for file conflicts: [....error]
Detected 1 file conflict:

File /usr/share/lab/shared
  from install of
     lab-two-2.0-1.noarch (Lab)
  conflicts with file from package
     lab-one-2.0-1.noarch (@System)

File conflicts happen when two packages attempt to install files with the same name but different contents.
Continue? [yes/no] (no): no
Problem occurred during or after installation or removal of packages:
Installation has been aborted as directed.
"""
GONE = """Retrieving: lab-plain-2.0-1.noarch.rpm [not found]
File './lab-plain-2.0-1.noarch.rpm' not found on medium 'http://192.0.2.1/lab'
Abort, retry, ignore? [a/r/i/...? shows all options] (a): a
"""
CUT_OFF = """Retrieving: lab-plain-2.0-1.noarch.rpm [error]
Timeout exceeded when accessing 'http://192.0.2.1/lab-plain-2.0-1.noarch.rpm'.
Retrying in 30 seconds...
"""
CHANGED = """Warning: Digest verification failed for file 'lab-plain-2.0-1.noarch.rpm'
[/var/tmp/AP_0xw1TfKK/lab-plain-2.0-1.noarch.rpm]

  expected 27d1afbb
  but got  9761f73d
"""
UNSIGNED = """lab-plain-2.0-1.noarch.rpm:
    Package is not signed!

lab-plain-2.0-1.noarch (Lab): Signature verification failed [6-File is unsigned]
Abort, retry, ignore? [a/r/i] (a): a
"""
ABORTED = """Problem occurred during or after installation or removal of packages:
Installation has been aborted as directed.
Please see the above error message for a hint.
"""


def run(place: Path, *parts: str) -> str:
    """What a script prints that is made of these parts."""
    environment = {"PATH": f"{place}:{os.environ['PATH']}", "FP_JOB_DIR": str(place), "LC_ALL": "C", "HOME": str(place)}
    script = "\n".join(parts)
    done = subprocess.run(  # SIGPIPE is ignored, as in a job that a daemon began
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
        restore_signals=False,
    )
    assert done.stderr == ""
    return done.stdout


def run_job(place: Path, log: str, command: str) -> str:
    """What a command of a job prints when zypper has printed this."""
    (place / "log").write_text(log)
    job = load_script("rpm_job", PACKAGE).replace("\nfp_each_transaction transaction\n", "\n")
    stubs = "fp_ask_rpm() { fp_arch=x86_64 fp_rpm_home=/var/lib/rpm; }; log_from=0"
    parts = (
        load_script("prelude"),
        load_script("transactions"),
        load_script("tool_settings", PACKAGE),
        load_script("package_tool", PACKAGE),
    )
    return run(place, *parts, stubs, job, command)


def test_colours_that_are_always_on_are_not_read(tmp_path: Path) -> None:
    lines = f"'{COLOUR}Repository{COLOUR} : {COLOUR}lab' '{COLOUR}Name{COLOUR} : {COLOUR}lab-sec'"
    (tmp_path / "zypper").write_text(f"#!/bin/sh\nprintf '%s\\n' {lines}\n")
    (tmp_path / "zypper").chmod(0o755)
    said = run(
        tmp_path, load_script("tool_settings", PACKAGE), load_script("package_queries", PACKAGE), "describe lab-sec"
    )
    assert said == "Repository : lab\nName : lab-sec\n"


@pytest.mark.parametrize(("knows", "starts"), [("both", 1), ("patches", 2), ("packages", 2)])
def test_patches_and_packages_are_described_in_one_start(tmp_path: Path, knows: str, starts: int) -> None:
    """An old zypper might tell only one kind of what it is asked for."""
    told = {
        "patches": "Information for patch P:1:\n-----\nName : P:1\nProvides : patch\nConflicts : a < 2\nRequires : q\n",
        "packages": "Information for package a:\n-----\nName : a\nProvides : [2]\n    a\n    x\nRequires : new\n\n"
        "Information for package new:\n-----\nName : new\nProvides : new\nRequires : libc\n",
    }
    (tmp_path / "patches").write_text(told["patches"])
    (tmp_path / "packages").write_text(told["packages"])
    (tmp_path / "zypper").write_text(
        f"""#!/bin/sh
cd {tmp_path}; echo "$*" >>calls
case $*:{knows} in
  *"--type package"*:both) cat patches packages ;;
  *"--type package"*) cat {knows} ;;
  *"--type patch"*) cat patches ;;
  *) cat packages ;;
esac
"""
    )
    (tmp_path / "zypper").chmod(0o755)
    said = run(
        tmp_path,
        load_script("prelude"),
        load_script("tool_settings", PACKAGE),
        load_script("package_queries", PACKAGE),
        "fp_text_section() { printf '== %s\\n%s\\n' \"$1\" \"$2\"; }; readable=''",
        "patches=' P:1' names=' a new' lacking=' new'; describe_all",
    )
    sections = {part.split("\n")[0]: "\n".join(filter(None, part.split("\n")[1:])) for part in said.split("== ")[1:]}
    assert sections == {
        "patch_details": "Information for patch P:1:\nName : P:1\nConflicts : a < 2",
        "package_details": "Information for package a:\nName : a\nRequires : new\n"
        "Information for package new:\nName : new\nRequires : libc",
        "new_packages": "Information for package new:\nName : new\nProvides : new",
    }
    assert len((tmp_path / "calls").read_text().splitlines()) == starts


@pytest.mark.parametrize("accepts", ["", "yes"])
def test_a_simulation_accepts_licences_only_if_that_is_allowed(tmp_path: Path, accepts: str) -> None:
    (tmp_path / "zypper").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "zypper").chmod(0o755)
    stubs = f'fp_param() {{ [ "$1" != accept_licences ] || echo {accepts}; }}'
    stubs += '; fp_section() { [ "$1" = cached ] || { shift; "$@"; }; }'
    said = run(
        tmp_path,
        stubs,
        load_script("tool_settings", PACKAGE),
        load_script("package_queries", PACKAGE),
        "simulate_tool lab-lic-2.0-1",
    )
    option = "--auto-agree-with-licenses " if accepts else ""
    assert said.strip().endswith(f"install --dry-run {option}lab-lic-2.0-1")


def test_a_job_reads_them_neither(tmp_path: Path) -> None:
    log = f"{COLOUR}(1/1) Installing: lab-plain-2.0-1.noarch [\x1b[1mdone]\n"
    assert run_job(tmp_path, log, "tool_began && echo began") == "began\n"


def test_a_package_that_prints_a_lot_does_not_hide_that_the_installation_began(tmp_path: Path) -> None:
    log = "(1/1) Installing: lab-plain-2.0-1.noarch [done]\n" + "noise\n" * 100_000
    assert run_job(tmp_path, log, "tool_began && echo began") == "began\n"


def test_a_file_that_two_packages_have_is_told(tmp_path: Path) -> None:
    said = run_job(tmp_path, CONFLICT, "complaint 1")
    conflict = (
        "from install of lab-two-2.0-1.noarch (Lab) conflicts with file from package lab-one-2.0-1.noarch (@System)"
    )
    assert said == f"refused: File /usr/share/lab/shared {conflict}\n"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (GONE, "File './lab-plain-2.0-1.noarch.rpm' not found on medium 'http://192.0.2.1/lab'"),
        (CUT_OFF, "Timeout exceeded when accessing 'http://192.0.2.1/lab-plain-2.0-1.noarch.rpm'."),
        (CHANGED, "Warning: Digest verification failed for file 'lab-plain-2.0-1.noarch.rpm'"),
        (UNSIGNED, "lab-plain-2.0-1.noarch (Lab): Signature verification failed [6-File is unsigned]"),
    ],
)
def test_a_download_that_failed_is_told_and_may_be_tried_again(tmp_path: Path, log: str, reason: str) -> None:
    assert run_job(tmp_path, log + ABORTED, "complaint 8") == f"fetch: {reason}\n"


@pytest.mark.parametrize("package", ["(3/4) Installing: ", "( 7/10) Installing: ", "(  1/300) Removing: "])
def test_an_installation_has_begun_however_many_packages_it_has(tmp_path: Path, package: str) -> None:
    log = f"{package}lab-plain-2.0-1.noarch [done]\n"
    assert run_job(tmp_path, log, "tool_began && echo began") == "began\n"


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("(3/4) Installing: lab-epoch-1:2.0-1.noarch [..done]", "62.5 lab-epoch-1:2.0-1.noarch Installing"),
        ("(  1/300) Removing: lab-plain-2.0-1.noarch [..done]", "0.2 lab-plain-2.0-1.noarch Removing"),
        (
            "In cache a.rpm\nRetrieving package lab-big-2.0-1.noarch (1/20),   4.0 MiB",
            "5.0 lab-big-2.0-1.noarch Downloading",
        ),
        (  # zypper 1.14.89
            "Retrieving: lab-big-2.0-1.noarch (lab) (1/20),   4.0 MiB",
            "5.0 lab-big-2.0-1.noarch Downloading",
        ),
    ],
)
def test_progress_is_read(tmp_path: Path, line: str, progress: str) -> None:
    assert run_job(tmp_path, f"{line}\n", 'awk "$read_progress" "$log"') == f"{progress}\n"


PATCHES = """<updates><update from="suse"><id>ONE</id><pkglist><collection>
  <package name="shop" version="2" release="1" epoch="0" arch="noarch"><filename>f</filename></package>
  <package name="other" version="2" release="1" epoch="0" arch="noarch"><filename>f</filename>{inside}</package>
</collection></pkglist></update>
<update><id>TWO</id>{outside}<pkglist>
  <package name="shop" version="3" release="1" epoch="1" arch="noarch"><filename>f</filename></package>
</pkglist></update></updates>"""


@pytest.mark.parametrize("installed_at", [99, 101])
def test_a_patch_that_suggests_a_reboot_says_so_of_all_its_packages_that_came_after_the_boot(
    tmp_path: Path, installed_at: int
) -> None:
    folder = tmp_path / "raw/repo/repodata"
    folder.mkdir(parents=True)
    mark = "<reboot_suggested>True</reboot_suggested>"
    (folder / "1-updateinfo.xml").write_text(PATCHES.format(inside=mark, outside=mark))
    installed = f"installed='shop\t0\t2\t1\tnoarch\t{installed_at}\tlab'"
    words = (f"raw={tmp_path}/raw", "boot_time() { echo 100; }", installed, "patch_reboots")
    said = run(tmp_path, load_script("package_queries", PACKAGE), *words)
    assert said == ("shop\t0\t2\t1\tnoarch\n" if installed_at > 100 else "")
