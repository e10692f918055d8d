"""Which settings of dnf and yum a run decides: the page about platforms and the scripts say the same."""

import re
import subprocess
from pathlib import Path

import pytest

from tasks.machines.transport.script_library import load_script

HEADING = "## The machine's dnf.conf and yum.conf"
PAGE = Path("docs/reference/platforms.md").read_text(encoding="utf-8").partition(HEADING)[2]
COLUMNS = ("dnf", "dnf5", "yum")
WORDS = {"--best": "best", "--assumeno": "assumeno", "--rpmverbosity=": "rpmverbosity"}


def read_page() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", PAGE.partition("\n## ")[0], re.MULTILINE)
    return {tool: {name for name, *cells in rows if cells[i] == "set"} for i, tool in enumerate(COLUMNS)}


def read_scripts(tool: str) -> set[str]:
    names = ("package_tool", "package_queries", "tool_settings", "transaction_flags")
    text = "\n".join(load_script(name, f"tasks.machines.managers.rpm.{tool}") for name in names)
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = set(re.findall(r"--setopt=\W*(\w+)=", text))
    return {*found, *(setting for word, setting in WORDS.items() if word in text)} - {"disable_excludes"}


@pytest.mark.parametrize("tool", COLUMNS)
def test_the_page_names_each_setting_that_the_scripts_set(tool: str) -> None:
    assert read_scripts(tool) == read_page()[tool]


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ("tsflags=nodocs\n", ""),
        ("tsflags = nodocs,noscripts JUSTDB\n", "--setopt=tsflags=,nodocs"),
        ("tsflags=test\n", "--setopt=tsflags="),
        ("", ""),
    ],
)
def test_flags_that_keep_scripts_from_running_are_taken_out(tmp_path: Path, settings: str, option: str) -> None:
    (tmp_path / "dnf.conf").write_text(settings)
    script = load_script("transaction_flags", "tasks.machines.managers.rpm") + "\nfp_tsflags missing dnf.conf\n"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == option
