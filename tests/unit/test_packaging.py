"""What only a look at the files can tell: names that shadow others, what a wheel holds, the house rules."""

import ast
import codecs
import functools
import importlib.metadata
import os
import re
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from tests.ci import tree
from tests.support.wheel import build_wheel

ROOMS = ("inventory", "tasks", "flows", "deployments", "fleetpatch")
LONGEST_FILE = 800
DATA = ("tests/data/", "fleetpatch/pages/static/vendor/")  # as long, and as they end, as recorded or published
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
GENERATED = (*LOCKS, "tests/bench/requirements.txt")
CODE = (".py", ".sh", ".ps1", ".psm1")


def _project() -> dict[str, object]:
    return tomllib.loads((tree.TOP / "pyproject.toml").read_text())


@functools.cache
def _texts() -> dict[str, str]:
    """What stands in each file; several tests look for something in all of them."""
    return {tree.name(path): path.read_text() for path in tree.texts()}


def _written() -> list[Path]:
    return [p for p in tree.texts() if tree.name(p) not in GENERATED and not tree.name(p).startswith(DATA)]


# ---------------------------------------------------------------- names


def test_no_file_in_flows_shadows_a_package() -> None:
    # Prefect puts flows/ in front of sys.path when an entry point is a path: flows/queue.py would be `queue`.
    mine = {p.stem for p in (tree.TOP / "flows").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    installed = {
        name for name, owners in importlib.metadata.packages_distributions().items() if owners != ["fleetpatch"]
    }
    taken = set(sys.stdlib_module_names) | installed | set(ROOMS)
    assert len(installed) > 50
    assert not (mine - {"__init__"}) & taken


def test_the_five_packages_are_one_installation() -> None:
    # With a namesake of another project on the path, half of the program would be somebody else's.
    parents = {Path(str(import_module(room).__file__)).resolve().parent.parent for room in ROOMS}
    assert parents == {tree.TOP}


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {p.parent for p in tree.files() if p.suffix == ".py" and tree.name(p).split("/")[0] in (*ROOMS, "tests")}
    assert [tree.name(f) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_the_version_in_the_changelog_is_the_packages() -> None:
    project = _project()["project"]
    assert isinstance(project, dict)
    headings = re.findall(r"^## \[([^]]+)\]", (tree.TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert project["version"] in (headings[1:2] or [project["version"]])


# ---------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel."""
    with zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel"))) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_holds_everything_the_packages_need(wheel: set[str]) -> None:
    # Scripts, templates and migrations are data, which is easily forgotten: a checkout works, an installation doesn't.
    needed = {tree.name(p) for p in tree.files() if tree.name(p).split("/")[0] in ROOMS}
    assert "tasks/machines/scripts/posix/prelude.sh" in needed
    assert needed - wheel == set()
    assert {f"{room}/py.typed" for room in ROOMS} <= wheel


@pytest.mark.slow
def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == set(ROOMS)


def test_the_console_script_leads_to_a_function() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="fleetpatch")
    assert callable(script.load())


# ---------------------------------------------------------------- the lock


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_locked_has_hashes(lock: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", (tree.TOP / lock).read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) > 5
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_every_dependency_is_locked() -> None:
    text = (tree.TOP / "requirements-dev.lock").read_text()
    locked = {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}
    project, groups = _project()["project"], _project()["dependency-groups"]
    assert isinstance(project, dict)
    assert isinstance(groups, dict)
    lines = [*project["dependencies"], *groups["build"], *groups["dev"], *groups["docs"]]
    asked = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines if isinstance(line, str)}
    assert asked - locked == set()


NOT_IMPORTED = {"psycopg", "python-multipart", "tzdata"}  # SQLAlchemy, FastAPI and zoneinfo import them


def _list_imports(path: Path) -> set[str]:
    """Return the first names of all modules that a file imports, also inside functions."""
    tree_of_file = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree_of_file) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree_of_file) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    # What another package happens to bring may be gone with its next release.
    project = _project()["project"]
    assert isinstance(project, dict)
    declared = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in project["dependencies"]}
    sources = [p for p in tree.files() if p.suffix == ".py" and tree.name(p).split("/")[0] in ROOMS]
    modules = set().union(*map(_list_imports, sources)) - sys.stdlib_module_names - {*ROOMS, "_typeshed"}
    owners = importlib.metadata.packages_distributions()
    imported = {owner.lower().replace("_", "-") for module in modules for owner in owners.get(module, [module])}
    assert len(imported) > 30
    assert imported <= declared
    assert declared - imported == NOT_IMPORTED


@pytest.mark.parametrize("lock", GENERATED)
def test_a_lock_names_no_index(lock: str) -> None:
    assert "://" not in (tree.TOP / lock).read_text()


# ---------------------------------------------------------------- the house rules


def test_no_file_is_too_long() -> None:
    counted = {
        tree.name(p): len(p.read_text().splitlines()) for p in _written() if p.suffix in CODE or "." not in p.name
    }
    del counted["LICENSE"]
    assert {name: lines for name, lines in counted.items() if lines > LONGEST_FILE} == {}


def test_texts_are_utf8_with_unix_line_ends_and_end_in_one() -> None:
    def right(content: bytes) -> bool:
        content.decode()
        return not content or (content.endswith(b"\n") and b"\r" not in content and content[:3] != codecs.BOM_UTF8)

    assert [tree.name(p) for p in _written() if not right(p.read_bytes())] == []


def test_a_file_is_executable_exactly_when_it_is_started_by_name() -> None:
    # Scripts for the fleet's machines travel as text; they are never started from here.
    wrong = []
    for path in _written():
        shebang = path.read_bytes().startswith(b"#!")
        travels = tree.name(path).startswith(
            ("tasks/machines/scripts/", "tasks/machines/managers/", "tests/support/parcel/")
        )
        if os.access(path, os.X_OK) and path.stat().st_mode & 0o111 and (travels or not shebang):
            wrong.append(f"{tree.name(path)} is executable")
        if shebang and not travels and not path.stat().st_mode & 0o111:
            wrong.append(f"{tree.name(path)} is not executable")
        sourced = path.read_bytes().startswith(b"# shellcheck shell=")  # by a script that has one
        if path.suffix == ".sh" and not (travels or shebang or sourced):
            wrong.append(f"{tree.name(path)} has no shebang")
    assert wrong == []


# In pieces, or this file would be its own first finding.
FORBIDDEN = {
    "a path of somebody's own machine": r"(?<![\w.])/" + r"work/|(?<![\w-])share" + r"d/|/\.py" + "env/",
    "the host of a package registry": r"py" + r"pi\.org|python" + r"hosted\.|(deb|security|snapshot)\.debian\.org",
    "the number of an issue": r"(?i:issues?) #\d+|\bGH-\d+|\((?:fixes )?#\d+\)",
    "work left over": r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b",
    "a secret": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}|gh[pous]_[A-Za-z0-9]{36}|AKIA[0-9A-Z]{16}",
}
ALLOWED = {
    (".ci/run", "a path of somebody's own machine"),
    ("tests/data/event_clients/Listener.py.txt", "work left over"),  # an unchanged copy
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}"
        for name, text in _texts().items()
        if (name, what) not in ALLOWED
        for hit in re.finditer(FORBIDDEN[what], text)
    ]
    assert found == []


def _forbidden(text: str) -> bool:
    return any(re.search(pattern, text) for pattern in FORBIDDEN.values())


def test_the_forbidden_words_are_recognised() -> None:
    bad = (
        "cd /" + "work/main",
        "../" * 2 + "shared" + "/tools",
        "https://py" + "pi.org/x",
        "issue " + "#12",
        "# TO" + "DO: later",
    )
    good = ("/usr/share/x", "network/", "teamwork/", "a share of", "colour #333", "-----BEGIN PRIVATE KEY-----\n")
    assert [text for text in bad if not _forbidden(text)] == []
    assert [text for text in good if _forbidden(text)] == []


# ---------------------------------------------------------------- systems and package managers

BELOW_THE_SEAM = ("tasks/machines/managers/", "tasks/machines/scripts/", "tasks/machines/transport/")
"""What knows systems and package managers. Everything else must not: then a new one changes nothing else."""

FOREIGN_WORDS = re.compile(
    r"(?<![a-z])(apt|dpkg|debian|ubuntu|rpm|dnf|yum|zypper|unattended|conffiles?|sudo|doas|inodes?"
    r"|bootc|ostree|transactional-update|kpatch|klp|ksplice|snapper|packagekit)(?![a-z])"
    r"|/etc/|/boot(?![a-z])|/var/(?!lib/fleetpatch)|(?<![a-z])PAM(?![a-z])|(exit_code|rc) ?==? ?1[0-9]{2}(?![0-9])",
    re.IGNORECASE,
)
ALLOWED_WORDS = {
    "flows/policy/policy_file.py": ("/etc/",),  # the controller's own policy, of its administrator
    "inventory/files/settings_file.py": ("/etc/",),  # the controller's own settings
    "inventory/machine.py": ("sudo", "doas"),  # the values of the setting `privilege`, which only a transport reads
    "inventory/schema/entries.py": ("sudo", "doas"),  # the same, described
    "inventory/files/file_trust.py": ("sudo",),  # how a person may start fleetpatch itself
    "inventory/schema/validation.py": ("sudo",),  # a key that may hold a secret
    "inventory/files/paths.py": ("inode", "inodes"),  # of the controller's own disks
    "inventory/loader.py": ("rpm",),  # a suffix of files that Ansible ignores
    "inventory/formats/ansible/connection_variables.py": ("sudo",),  # Ansible's own words
    "inventory/formats/ansible/ignored_configuration.py": ("sudo",),
    "inventory/formats/ansible/reader.py": ("sudo", "doas"),
    "flows/ports/caller.py": ("sudo",),  # its variable names who uses it, on the controller
    "tasks/reports/data/rows.py": ("conffiles",),  # a column of reports
    "tasks/reports/data/tables.py": ("conffiles",),
    "tasks/reports/export/json_document.py": ("conffiles",),
    "tasks/reports/query/azure_views.py": ("dnf", "yum", "zypper"),  # Azure's words for the service that was used
    "tasks/rules/recording.py": ("debian", "ubuntu"),  # public servers and words that name no machine
    "tasks/rules/machine_checks/listeners.py": ("pam",),  # how Linux tells services from programs of users
}


def _find_foreign_words(text: str) -> set[str]:
    return {hit[0].lower() for hit in FOREIGN_WORDS.finditer(text)}


def test_systems_and_package_managers_stay_behind_their_protocols() -> None:
    found = {
        name: words
        for name, text in _texts().items()
        if name.endswith(".py") and name.startswith(ROOMS) and not name.startswith(BELOW_THE_SEAM)
        if (words := _find_foreign_words(text))
    }
    too_many = {name: words - set(ALLOWED_WORDS.get(name, ())) for name, words in found.items()}
    assert {name: words for name, words in too_many.items() if words} == {}
    assert {name for name, words in ALLOWED_WORDS.items() if not set(words) <= found.get(name, set())} == set()


def test_the_foreign_words_are_recognised() -> None:
    bad = ('name == "apt"', "APT::x", "/etc/passwd", "kept_conffiles", "free_inodes", "exit_code == 100", "/var/cache")
    assert _find_foreign_words("bootc rpm-ostree transactional-update kpatch klp ksplice snapper PackageKit") == {
        *("bootc", "rpm", "ostree", "transactional-update", "kpatch", "klp", "ksplice", "snapper", "packagekit")
    }
    good = ("adapt", "option", "/etcetera", "sqlite:////var/lib/fleetpatch/x.db", "exit_code == 1", "spam")
    assert [text for text in bad if not _find_foreign_words(text)] == []
    assert [text for text in good if _find_foreign_words(text)] == []


_OUR_MODULE = r"(?=(?:prefect|fleetpatch|flows|tasks|deployments)\b)"
_MODULE_STARTS = re.compile(
    r"""(?:(?<!"-P", )"-m", "|(?<!-P, )-m, |python3? -m )""" + _OUR_MODULE,
)


def test_no_program_of_ours_searches_modules_in_the_current_folder() -> None:
    # python -m begins there; -P leaves it out.
    assert not [
        (tree.name(p), starts)
        for p in tree.texts()
        if tree.name(p).startswith((*ROOMS, "docs/", "README"))
        if (starts := _MODULE_STARTS.findall(p.read_text()))
    ]


def test_module_starts_are_recognised() -> None:
    bad = (
        '(sys.executable, "-m", "prefect")',
        "python -m fleetpatch.cli.command",
        "[python, -m, fleetpatch.cli.command]",
    )
    good = ('"-P", "-m", "prefect"', "python -P -m flows.x", "[python, -P, -m, flows.x]", "python -m venv x")
    assert [text for text in bad if not _MODULE_STARTS.search(text)] == []
    assert [text for text in good if _MODULE_STARTS.search(text)] == []


# ---------------------------------------------------------------- shell


def test_scripts_for_machines_are_posix() -> None:
    # The fleet has dash and busybox; a shebang or directive of another shell would let bashisms through.
    firsts = {tree.name(p): p.read_text().partition("\n")[0] for p in (tree.TOP / "tasks").rglob("*.sh")}
    assert {name: line for name, line in firsts.items() if line not in ("#!/bin/sh", "# shellcheck shell=sh")} == {}
