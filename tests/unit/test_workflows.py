"""The workflows for forks: they can be read, name files that exist, and give no job more than it needs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci import tree

WORKFLOWS = sorted((tree.TOP / ".github/workflows").glob("*.yml"))
_STEP_KEYS = {"name", "uses", "with", "run", "shell", "if", "env", "id"}
_OWN_PATH = re.compile(r"(?<![\w-])(?:~/fleetpatch/)?((?:\.ci|deployments|docs|tasks|tests)/[\w./-]+)")
_PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")


def load(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
    return content


def steps(workflow: Mapping[Any, Any]) -> Iterator[Mapping[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def find_own_paths(text: str) -> list[str]:
    return [found.rstrip(".") for found in _OWN_PATH.findall(text)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_complete(path: Path) -> None:
    workflow = load(path)
    assert workflow.keys() >= {"name", True, "permissions", "jobs"}  # YAML takes "on" for true
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["runs-on"], name
        assert 0 < job["timeout-minutes"] <= 360, name
    for step in steps(workflow):
        assert step.keys() <= _STEP_KEYS, step
        assert ("uses" in step) != ("run" in step), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_files_that_a_workflow_names_exist(path: Path) -> None:
    named = [name for step in steps(load(path)) for name in find_own_paths(str(step.get("run", "")))]
    triggers = load(path)[True]
    patterns = (triggers.get("push") or {}).get("paths", ()) if isinstance(triggers, dict) else ()
    assert [name for name in named if not (tree.TOP / name).is_file()] == []
    assert [pattern for pattern in patterns if not any(tree.TOP.glob(pattern))] == []


def test_a_file_that_is_missing_is_found() -> None:
    assert find_own_paths("run ~/fleetpatch/tests/none.sh, then tests/ci/check.sh.") == [
        "tests/none.sh",
        "tests/ci/check.sh",
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_commits_and_say_their_version(path: Path) -> None:
    # A tag can be moved to other code, which would run with the workflow's token.
    used = re.findall(r"^ +- uses: (.*)$", path.read_text(), re.MULTILINE)
    assert len(used) == sum("uses" in step for step in steps(load(path)))
    assert [line for line in used if not _PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_checkout_leaves_no_token_for_what_runs_after_it(path: Path) -> None:
    checkouts = [step for step in steps(load(path)) if str(step.get("uses", "")).startswith("actions/checkout@")]
    assert len(checkouts) == len(load(path)["jobs"])
    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []


def test_windows_scripts_of_the_workflow_change_no_other_machine() -> None:
    prepare = (tree.TOP / "tests/ci/windows_prepare.ps1").read_text()
    assert prepare.index("if (-not $env:GITHUB_ENV) { throw") < prepare.index("New-LocalUser")
