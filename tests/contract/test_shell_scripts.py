"""All shell scripts of the project, as the shells that run them see them, and whether `make check` sees them all."""

import re
import subprocess
from pathlib import Path

from tests.ci import tree


def _shell_scripts() -> list[Path]:
    return [
        p
        for p in tree.texts()
        if p.suffix == ".sh" or p.read_bytes()[:64].startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
    ]


def _bash(path: Path) -> bool:
    return "bash" in path.read_text().partition("\n")[0]


def test_shell_scripts_parse_in_the_shell_that_runs_them() -> None:
    scripts = _shell_scripts()
    assert {"tests/lab/lab.sh", ".ci/run", "tasks/machines/scripts/posix/prelude.sh"} <= {tree.name(p) for p in scripts}
    for path in scripts:
        done = subprocess.run(
            ["bash" if _bash(path) else "sh", "-n", str(path)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), tree.name(path)


def test_make_check_shows_all_of_them_to_shellcheck() -> None:
    (find,) = re.findall(r"^shell_scripts\(\) \{ (.*); \}$", (tree.TOP / "tests/ci/check.sh").read_text(), re.MULTILINE)
    done = subprocess.run(["sh", "-c", find], cwd=tree.TOP, capture_output=True, text=True, check=True)
    assert {tree.name(path) for path in _shell_scripts()} <= set(done.stdout.split())
