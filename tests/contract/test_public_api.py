"""Names that documents give to users of Python: each can be imported from its place."""

import re
from importlib import import_module

import pytest

from tests.ci import tree

PAGE = tree.TOP / "docs/reference/python.md"
IMPORT = re.compile(r"^ *(?:\|.*`)?from ((?:flows|tasks|inventory|deployments)[\w.]*) import ([\w, ]+)", re.MULTILINE)


def _listed() -> list[tuple[str, str]]:
    rows = [row.split("|")[1:3] for row in PAGE.read_text().splitlines() if row.startswith("| `")]
    return [(where.strip(" `"), name) for where, names in rows for name in re.findall(r"`(\w+)`", names)]


def _shown() -> list[tuple[str, str]]:
    texts = [tree.TOP / "README.md", *(tree.TOP / "docs").rglob("*.md")]
    found = [match for text in texts for match in IMPORT.findall(text.read_text())]
    return [(where, name.strip()) for where, names in found for name in names.split(",")]


@pytest.mark.parametrize(("where", "name"), sorted({*_listed(), *_shown()}))
def test_documented_name_can_be_imported(where: str, name: str) -> None:
    assert getattr(import_module(where), name) is not None


def test_the_page_lists_all_that_packages_export() -> None:
    packages = ("flows.request", "flows.approval", "flows.recovery", "flows.hooks", "flows.ports")
    for package in (*packages, "tasks.records", "tasks.reports"):
        exported = set(import_module(package).__all__)
        assert exported == {name for where, name in _listed() if where == package}


def test_examples_import_what_the_page_lists() -> None:
    assert set(_shown()) <= set(_listed())
    assert len(_shown()) > 10
