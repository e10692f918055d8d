"""How package jobs read what yum 3 and dnf 5 print. The shapes are from their own sources and from reports about them:
the project has no machines with these two.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.machines.managers.rpm.dnf.transaction import parse_transaction
from tasks.machines.transport.script_library import load_script

YUM = """Resolving Dependencies
--> Running transaction check
---> Package bash.x86_64 0:4.2.46-31.el7 will be updated
---> Package bash.x86_64 0:4.2.46-35.el7_9 will be an update
---> Package kernel.x86_64 0:3.10.0-957.el7 will be erased
---> Package kernel.x86_64 0:3.10.0-1160.el7 will be installed
---> Package old-name.noarch 1:1.0-1.el7 will be obsoleted
---> Package new-name.noarch 0:2.0-1.el7 will be obsoleting
--> Finished Dependency Resolution
"""
YUM_CHANGES = """out bash x86_64 4.2.46-31.el7
in bash x86_64 4.2.46-35.el7_9
gone kernel x86_64 3.10.0-957.el7
in kernel x86_64 3.10.0-1160.el7
gone old-name noarch 1:1.0-1.el7
in new-name noarch 2.0-1.el7
"""
DNF5 = """Updating and loading repositories:
Repositories loaded.
Package                      Arch   Version                 Repository      Size
Upgrading:
 qemu-img                    x86_64 2:9.1.2-1.fc41          updates     22.9 MiB
   replacing qemu-img        x86_64 2:9.1.1-2.fc41          updates     22.9 MiB
 unbound-libs                i686   0:1.22.0-8.fc41         updates      1.5 MiB
   replacing unbound-libs    i686   0:1.21.1-1.fc41         fedora       1.5 MiB
Installing:
 openh264                    x86_64 2.6.0-2.fc43            cisco        1.1 MiB
   replacing noopenh264      x86_64 2.6.0-1.fc43            <unknown>   39.2 KiB
Installing dependencies:
 liburing                    x86_64 2.8-1.fc41              fedora      99.0 KiB
Removing:
 kernel-core                 x86_64 6.8.5-301.fc40          updates     20.0 MiB

Transaction Summary:
 Installing:         2 packages
 Upgrading:          2 packages

"""
DNF5_CHANGES = """in qemu-img x86_64 2:9.1.2-1.fc41
out qemu-img x86_64 2:9.1.1-2.fc41
in unbound-libs i686 1.22.0-8.fc41
out unbound-libs i686 1.21.1-1.fc41
in openh264 x86_64 2.6.0-2.fc43
gone noopenh264 x86_64 2.6.0-1.fc43
in liburing x86_64 2.8-1.fc41
gone kernel-core x86_64 6.8.5-301.fc40
"""
YUM_RUNS = "  Updating   : bash-4.2.46-35.el7_9.x86_64                                1/2 \n"
DNF5_RUNS = "[3/9] Upgrading qemu-img-2:9.1.2-1.fc41.x86_64     100% |  11.3 MiB/s | 185.0 KiB |  00m00s\n"
DNF5_DOWNLOADS = "[ 2/ 4] unbound-libs-0:1.22.0-8.fc41.i686      100% |   4.8 MiB/s |  49.5 KiB |  00m00s\n"


YUM_SKIPS = """--> Running transaction check
---> Package httpd.x86_64 0:2.2.15-69.el6 will be updated
---> Package httpd.x86_64 0:2.2.15-70.el6 will be an update
---> Package openssl.x86_64 1:1.0.1e-57.el6 will be updated
---> Package openssl.x86_64 1:1.0.1e-58.el6 will be an update
--> Processing Dependency: nowhere for package: 1:openssl-1.0.1e-58.el6.x86_64

Packages skipped because of dependency problems:
    1:openssl-1.0.1e-58.el6.x86_64 from updates

Dependencies Resolved
"""  # yum/__init__.py, _skipPackagesWithProblems
YUM_KEEPS = """---> Package httpd.x86_64 2.2.15-69.el6 will be upgraded
---> Package httpd.x86_64 2.2.15-70.el6 will be an upgrade
---> Package openssl.x86_64 1:1.0.1e-57.el6 will be upgraded
 Problem: openssl-1:1.0.1e-58.el6.x86_64 is skipped because of dependency problems
"""


def call(place: Path, tool: str, command: str, text: str) -> str:
    """What a function of a tool's script prints of a text."""
    package = f"tasks.machines.managers.rpm.{tool}"
    script = "\n".join([load_script("yum_family", package), load_script("package_tool", package), command])
    environment = {"PATH": os.environ["PATH"], "FP_JOB_DIR": str(place), "LC_ALL": "C"}
    done = subprocess.run(
        ["sh", "-c", script], input=text, capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    return done.stdout


@pytest.mark.parametrize(("tool", "text", "changes"), [("yum", YUM, YUM_CHANGES), ("dnf5", DNF5, DNF5_CHANGES)])
def test_what_a_transaction_would_change_is_read(tmp_path: Path, tool: str, text: str, changes: str) -> None:
    assert call(tmp_path, tool, "tool_changes", text) == changes


@pytest.mark.parametrize(
    ("tool", "text", "progress"),
    [
        ("yum", YUM_RUNS, "23.8 bash-4.2.46-35.el7_9.x86_64 Updating\n"),
        ("dnf5", DNF5_RUNS, "33.3 qemu-img-2:9.1.2-1.fc41.x86_64 Upgrading\n"),
        ("dnf5", DNF5_DOWNLOADS, "50.0 unbound-libs-0:1.22.0-8.fc41.i686 Downloading\n"),
    ],
)
def test_progress_is_read(tmp_path: Path, tool: str, text: str, progress: str) -> None:
    assert call(tmp_path, tool, 'awk "$read_progress"', text) == progress


def test_what_yum_skips_is_not_what_it_would_install(tmp_path: Path) -> None:
    package = "tasks.machines.managers.rpm.yum"
    functions = [load_script("dnf_family", package), load_script("package_queries", package)]
    command = 'ask() { cat "$FP_JOB_DIR/said"; }\nsimulate update; printf "%s\\n" "$transaction"'
    (tmp_path / "said").write_text(YUM_SKIPS)
    environment = {"PATH": os.environ["PATH"], "FP_JOB_DIR": str(tmp_path), "LC_ALL": "C"}
    done = subprocess.run(
        ["sh", "-c", "\n".join([*functions, command])],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
    )
    assert done.stdout == YUM_KEEPS
    skipped = parse_transaction(done.stdout)
    assert set(skipped.changes) == {("httpd", "x86_64")}
    assert "openssl-1:1.0.1e-58.el6.x86_64" in skipped.errors[0]
