"""Long texts from a machine: reading them takes a time that grows with their length, and not with its square.

The sizes are so large that a quadratic search takes minutes, and a linear one less than a second.
"""

import time
from collections.abc import Callable

import pytest

from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.apt.kernels import parse_flavour
from tasks.machines.managers.live_patches import parse_live_patches
from tasks.machines.managers.repository_problems import (
    MAX_LINE_LENGTH,
    build_repository_problem,
    drop_repository_names,
    redact_complaint,
)
from tasks.machines.managers.rpm.advisories import parse_advisories
from tasks.machines.managers.rpm.dnf.assessment import parse_needed_by
from tasks.machines.managers.rpm.packages import parse_rpm_versions
from tasks.machines.managers.rpm.repositories import find_rpm_repository_problems
from tasks.machines.managers.script_output import ScriptSection

LONG = 200_000
BRACKETS = "[|" * (LONG // 2)
DOTS = "http://" + "." * LONG + "x"
SPACES = "a" + " " * LONG + "x"
FILES = "           : x-2-1.noarch.rpm\n"
INSTALLED = "x\t0\t1\t1\tnoarch\t1795355941\tLab\n"


def read_live_patches(tool: str, text: str) -> object:
    result = ScriptResult(({"kind": "live_patching", "kernel": "5.14.0"},), 0)
    return parse_live_patches(result, {tool: ScriptSection(0, text)})


READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "marks after a URL": (drop_repository_names, DOTS),
    "brackets": (drop_repository_names, BRACKETS),
    "open brackets": (drop_repository_names, "[" * LONG),
    "redaction": (redact_complaint, DOTS),
    "a problem of one repository": (lambda text: build_repository_problem("updates", [text, "x"] * 10), DOTS),
    "a progress line": (find_rpm_repository_problems, SPACES),
    "lines of marks": (find_rpm_repository_problems, (DOTS[: 2 * MAX_LINE_LENGTH] + "\n") * 50),
    "lines of brackets": (find_rpm_repository_problems, (BRACKETS[: 2 * MAX_LINE_LENGTH] + "\n") * 50),
    "lines of blanks": (find_rpm_repository_problems, (SPACES[:MAX_LINE_LENGTH] + "\n") * 100),
    "empty lines": (find_rpm_repository_problems, "\n" * LONG),
    "a kernel's name": (parse_flavour, "1" + "~0" * 40 + "-"),
    "a kernel's long name": (parse_flavour, "1" + "+0" * LONG + "-"),
    "ksplice": (lambda text: read_live_patches("ksplice", text), "\n" * LONG),
    "klp": (lambda text: read_live_patches("klp", text), "a\n" + " \n" * LONG + " x"),
    "what needs a new package": (lambda text: parse_needed_by(text, "x86_64"), "new.noarch\tneeds.noarch\n" * LONG),
    "versions in one advisory": (parse_advisories, "  Update ID: A\n      Files: x-1-1.noarch.rpm\n" + FILES * LONG),
    "versions of one package": (lambda text: parse_rpm_versions(text, "x86_64"), INSTALLED * 50_000),
}


@pytest.mark.parametrize("what", READERS)
@pytest.mark.timeout(120)
def test_the_time_grows_with_the_length(what: str) -> None:
    read, text = READERS[what]
    started = time.process_time()
    read(text)
    assert time.process_time() - started < 20  # of this process alone, on whatever else the machine works
