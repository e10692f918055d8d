"""What production installs: requirements.lock has what fleetpatch needs to run, and no tool of development."""

import ast
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.ci import lock_files, tree
from tests.support.environment import without_ours

ROOMS = ("inventory", "tasks", "flows", "deployments", "fleetpatch")
OURS_OR_PYTHONS = {*ROOMS, *sys.stdlib_module_names, "_typeshed"}
"""Modules that need no package. The last one is imported for type checkers only."""
TOOLS = {"ansible-core", "bandit", "detect-secrets", "hatchling", "hypothesis", "mkdocs", "mypy", "pip", "playwright",
         "pytest", "ruff", "uv"}  # fmt: skip


def _read_lock(name: str) -> dict[str, set[tuple[str, str, tuple[str, ...]]]]:
    """Return name → (version, marker, hashes) of its entries."""
    entries: dict[str, set[tuple[str, str, tuple[str, ...]]]] = {}
    for package in lock_files.read_lock(tree.TOP / name):
        entries.setdefault(package.name, set()).add((package.version, package.marker, package.sha256))
    return entries


def _load_project() -> dict[str, Any]:
    return tomllib.loads((tree.TOP / "pyproject.toml").read_text())


def _find_closure(requirements: list[str]) -> set[str]:
    """Return the packages that installed packages ask for, on this machine."""
    waiting = [Requirement(each) for each in requirements]
    closure: dict[str, set[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), {"", *requirement.extras}
        new = extras - closure.get(name, set())
        closure.setdefault(name, set()).update(new)
        if new:
            asked = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [
                one for one in asked if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in new)
            ]
    return set(closure)


def test_production_has_what_the_projects_dependencies_need_and_nothing_else() -> None:
    packages = lock_files.read_lock(tree.TOP / lock_files.PRODUCTION)
    locked = {package.name for package in packages if package.is_for_this_machine()}
    assert locked == _find_closure(_load_project()["project"]["dependencies"])
    assert TOOLS & set(_read_lock(lock_files.PRODUCTION)) == set()
    assert set(_read_lock(lock_files.DEVELOPMENT)) >= TOOLS


@pytest.mark.parametrize("smaller", [lock_files.PRODUCTION, lock_files.BUILD])
def test_development_has_the_same_files_as_production(smaller: str) -> None:
    # Otherwise the tests would run with other versions than users have. `make lock` writes all of them.
    development = _read_lock(lock_files.DEVELOPMENT)
    assert {name: entries for name, entries in _read_lock(smaller).items() if development.get(name) != entries} == {}


def test_what_builds_the_wheel_is_a_lock_of_its_own() -> None:
    built_with = _load_project()["build-system"]["requires"]
    assert set(_read_lock(lock_files.BUILD)) == _find_closure(built_with)


def test_redis_needs_nothing_that_production_has_not() -> None:
    # deployments/compose/redis.txt is installed on top of the lock without its dependencies.
    assert "redis" in _read_lock(lock_files.PRODUCTION)


def _find_imports() -> Iterator[tuple[str, str]]:
    """Yield (file, top-level module) for each import, those inside functions included."""
    for room in ROOMS:
        for path in sorted((tree.TOP / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    yield from ((tree.name(path), alias.name.split(".")[0]) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield tree.name(path), node.module.split(".")[0]


def test_every_import_of_the_product_is_satisfied_by_production() -> None:
    owners = importlib.metadata.packages_distributions()
    locked = set(_read_lock(lock_files.PRODUCTION))
    foreign = [(file, module) for file, module in _find_imports() if module not in OURS_OR_PYTHONS]
    assert len(foreign) > 500
    unsatisfied = {
        (file, module)
        for file, module in foreign
        if not {canonicalize_name(owner) for owner in owners.get(module, ())} & locked
    }
    assert unsatisfied == set()


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the packages of requirements.lock alone."""
    folder = tmp_path_factory.mktemp("production") / "venv"
    python = folder / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    words = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(tree.TOP / lock_files.PRODUCTION)]
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", str(python), *words]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *words]  # reads pip's settings
    if subprocess.run(uv, capture_output=True, check=False).returncode != 0:
        subprocess.run(pip, check=True)
    return python


@pytest.mark.slow
def test_the_command_works_with_production_alone(production: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "fleet.yaml"
    inventory.write_text("machines:\n  - {name: here, transport: local, address: localhost, privilege: none}\n")
    environment = {
        **without_ours(),
        "PYTHONPATH": str(tree.TOP),
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path / 'records.db'}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(production), "-m", "fleetpatch.cli.command", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "patch" in shown.stdout
    assessed = run("assess", "here", "--inventory", str(inventory), "--no-refresh", "--json")
    assert assessed.returncode == 0, assessed.stdout + assessed.stderr
    (machine,) = json.loads(assessed.stdout)["machines"]
    assert machine["machineName"] == "here", assessed.stderr
    served = run("server", "--show", "--home", str(tmp_path / "prefect"))
    assert served.returncode == 0, served.stderr
