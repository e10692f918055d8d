"""Which settings of libzypp and zypper a run decides: the page about platforms and the scripts say the same."""

import re
import subprocess
from pathlib import Path

import pytest

from tasks.machines.transport.script_library import load_script
from tests.ci import tree

PACKAGE = "tasks.machines.managers.rpm.zypper"
_, _, PAGE = (tree.TOP / "docs/reference/platforms.md").read_text("utf-8").partition("## The machine's zypp.conf")
NAMES = ("tool_settings", "package_tool", "package_queries", "manager_environment")
SCRIPTS = "\n".join(
    re.sub(r"(^| )# .*", "", line) for name in NAMES for line in load_script(name, PACKAGE).splitlines()
)
ASKED = re.compile(
    r"--(dry-run|force|xmlout|type|repo|conflicts|requires|provides|all|solvables|non-interactive|auto-agree-with-licenses|oldpackage"
    r"|non-interactive-include-reboot-patches|csvout|columns|qf|whatprovides|runposttrans)$"
)
"""Options that say what is asked for, of zypper and of others."""


def read_table(title: str) -> list[tuple[list[str], list[str]]]:
    _, _, after = PAGE.partition(f"| setting | {title} |")
    rows = [row.split("|") for row in after.partition("\n\n")[0].splitlines()[2:]]
    return [(re.findall(r"`([^`]+)`", row[1]), re.findall(r"`([^`]+)`", row[2])) for row in rows]


def test_the_page_names_what_the_scripts_give() -> None:
    told = {option for _, options in read_table("fleetpatch gives") for option in options}
    assert all(option in SCRIPTS for option in told)
    given = {option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", SCRIPTS) if not ASKED.match(option)}
    assert given == {option.split()[0] for option in told if option.startswith("--")}


def test_nothing_is_both_given_and_left_to_the_machine() -> None:
    given = {name for names, _ in read_table("fleetpatch gives") for name in names}
    left = {name for names, _ in read_table("stays the machine's") for name in names}
    assert given
    assert left
    assert not given & left


@pytest.mark.parametrize(
    ("line", "options"), [("# solver.focus = Update\n", ""), ("solver.focus=Update\n", "--solver-focus Job")]
)
def test_the_focus_is_only_given_where_zypper_knows_it(tmp_path: Path, line: str, options: str) -> None:
    (tmp_path / "zypp.conf").write_text(f"[main]\n{line}")
    script = load_script("tool_settings", PACKAGE).replace("/etc/zypp/zypp.conf ", f"{tmp_path}/zypp.conf ")
    command = ["sh", "-c", f'{script}\necho "$solver_options"']
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == options
