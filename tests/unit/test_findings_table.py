"""Each warning names the act that ends it, and the table of findings knows the checks that warn or remark."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.ci import tree

TABLE = tree.TOP / "docs/reference/findings.md"
PACKAGES = ("tasks", "flows")
OTHER_SUBJECTS = ("installation_checks.py", "hotpatch.py", "live_patch_enrolment.py")
"""Findings about fleetpatch itself, and about the enrolment for hotpatches: no run has them."""


_CONSTANT = re.compile(r'^(_?[A-Z][A-Z_]*)(?:: Final)? = "([^"]+)"$', re.MULTILINE)


@cache
def _texts() -> dict[Path, str]:
    paths = (path for package in PACKAGES for path in sorted((tree.TOP / package).rglob("*.py")))
    return {path: text for path in paths if "Finding" in (text := path.read_text()) or "_CHECK" in text}


@cache
def _constants() -> dict[str, str]:
    return dict(pair for text in _texts().values() for pair in _CONSTANT.findall(text))


def _calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Yield each call that builds a warning or a remark: its file, its level, the call."""
    for path, text in _texts().items():
        if not re.search(r"Finding\.(warn|remark)\(|FindingLevel\.(WARN|REMARK)|_WARN\b", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            levels = [ast.unparse(argument) for argument in node.args]
            if name in ("Finding.warn", "Finding.remark"):
                yield path, name.partition(".")[2].upper(), node
            elif name == "Finding" and len(levels) > 1:
                level = levels[1].rpartition(".")[2].strip("_")
                if level in ("WARN", "REMARK"):
                    yield path, level, node


def _check_name(path: Path, call: ast.Call) -> str:
    """Return the name of the check; "" if only a run knows it."""
    argument = call.args[0]
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    if not isinstance(argument, ast.Name):
        return ""
    return dict(_CONSTANT.findall(_texts()[path])).get(argument.id) or _constants().get(argument.id, "")


def test_each_warning_has_a_remedy() -> None:
    warnings = [(path, call) for path, level, call in _calls() if level == "WARN"]
    lacking = [
        f"{path.relative_to(tree.TOP)}:{call.lineno}"
        for path, call in warnings
        if not any(keyword.arg == "remedy" for keyword in call.keywords)
        and (len(call.args) < (4 if ast.unparse(call.func) == "Finding" else 3) or ast.unparse(call.args[-1]) == "''")
    ]
    assert lacking == []
    assert len(warnings) > 50


def test_the_table_has_each_check_that_warns_or_remarks() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|([^|]*)\|([^|]*)\|", TABLE.read_text(), re.MULTILINE)
    columns = {"WARN": 0, "REMARK": 1}
    told = {
        (check, level)
        for checks, *cells in rows
        for level in columns
        if cells[columns[level]].strip()
        for check in re.findall(r"`([^`]+)`", checks)
    }
    built = {
        (check, level)
        for path, level, call in _calls()
        if path.name not in OTHER_SUBJECTS and (check := _check_name(path, call))
    }
    assert built - told == set()
