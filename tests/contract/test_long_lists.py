"""Lists of packages that are longer than 128 KiB: the kernel takes no longer argument of a program."""

import os
import subprocess
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script
from tasks.machines.transport.script_library import compose_script, load_script

RPM = "tasks.machines.managers.rpm"
COUNT = 7000
NAMES = [f"package-of-a-lab-{number:04}" for number in range(COUNT)]
WORDS = f"""names=$(awk 'BEGIN {{ for (k = 0; k < {COUNT}; k++) printf " package-of-a-lab-%04d", k }}')
lines=$(for name in $names; do echo "$name"; done)
fp_newline='
'
fp_emit() {{ :; }}
fp_set_param() {{ packages=$lines; }}
fp_text_section() {{ printf '%s\\n' "== $1" "$2"; }}
"""


def run(place: Path, package: str, name: str, words: str = "") -> subprocess.CompletedProcess[str]:
    """What a script, and these words after it, print with the stand-ins in this place."""
    script = compose_script(Script(name, package=package), load_script)
    return subprocess.run(
        ["sh", "-c", f"{WORDS}{script}\n{words}"],
        capture_output=True,
        text=True,
        env={"PATH": f"{place}:{os.environ['PATH']}", "LC_ALL": "C"},
        timeout=60,
        check=False,
    )


def put(place: Path, name: str, text: str) -> None:
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)


def put_rpm(place: Path) -> None:
    (place / "rows").write_text("".join(f"{name}\t0\t1\t1\tnoarch\t7\tLab\n" for name in [*NAMES, "other"]))
    put(place, "rpm", f'case "$*" in *--eval*) echo x86_64: ;; *" -a") cat {place}/rows ;; esac')


def test_versions_of_many_packages_are_read(tmp_path: Path) -> None:
    put_rpm(tmp_path)
    done = run(tmp_path, RPM, "rpm_installed")
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.partition("== packages\n")[2].partition("== duplicates\n")[0]
    assert [row.split("\t")[0] for row in rows.splitlines()] == NAMES


def test_packages_that_can_not_be_chosen_are_no_empty_list(tmp_path: Path) -> None:
    put_rpm(tmp_path)
    put(tmp_path, "awk", 'case "$*" in *"in wanted"*) exit 126 ;; esac\nexec /usr/bin/awk "$@"')
    done = run(tmp_path, RPM, "rpm_installed")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("package", "script", "words", "told"),
    [
        (f"{RPM}.zypper", "package_queries", "new=$names installed=other; find_lacking; echo $lacking", NAMES),
        (
            f"{RPM}.zypper",
            "package_queries",
            """described=$(for name in $names; do echo "Information for package $name:"; done)
            part package Provides "$names" | sed 's/.* //; s/:$//'""",
            NAMES,
        ),
        (
            f"{RPM}.zypper",
            "package_queries",
            """newest=$(for name in $names; do printf ' %s=2' "$name"; done)
            said="<to-install><solvable type=\\"package\\" name=\\"${names##* }\\" edition=\\"2\\"/></to-install>"
            list_elements "$names" "$newest" | sort""",
            [word for name in NAMES[:-1] for word in ("left", name)] + ["new", NAMES[-1]],
        ),
        (
            f"{RPM}.dnf",
            "package_queries",
            """new=$lines transaction='---> Package a.noarch 1 will be installed'
            dnf_query() { printf '>%s\\n<P\\nx\\n' "${names##* }|${names##* }" ; printf '>b.noarch|b\\n<R\\nx\\n'; }
            needed_by""",
            [NAMES[-1], "b.noarch"],
        ),
        (
            f"{RPM}.dnf",
            "package_queries",
            """replacements() { for name in $names; do echo "$name.noarch"; done; }
            fp_read_updateinfo() { echo "<update type='security'><id>U</id>"
              echo "<package name='${names##* }' version='2' release='1' arch='noarch'/></update>"; }
            other_advisories""",
            ["Update", "ID:", "U", "Type:", "security", "Files:", f"{NAMES[-1]}-2-1.noarch.rpm"],
        ),
    ],
    ids=["lacking", "part", "elements", "needers", "advisories"],
)
def test_many_packages_are_looked_for(tmp_path: Path, package: str, script: str, words: str, told: list[str]) -> None:
    done = run(tmp_path, package, script, words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == told
