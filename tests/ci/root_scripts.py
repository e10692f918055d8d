"""Writes the page of what fleetpatch runs on machines: python -m tests.ci.root_scripts --write.

A script that is started by itself says in its first comment, after its purpose, when it runs and what it changes::

    # Step: assess
    # Changes: nothing

The order is that of the steps in the code (``STEP_FUNCTIONS``).
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.steps.pipeline import STEP_FUNCTIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/what-runs-as-root.md"
MACHINES = ROOT / "tasks/machines"
NOTHING = "nothing"
MAX_PURPOSE = 130
"""Characters. Of a longer sentence, the page has what stands before the last colon."""

STEPS = {
    "connect": "With each connection",
    **{step.value.lower(): f"Step {number}: {step.value.lower()}" for number, step in enumerate(STEP_FUNCTIONS, 1)},
    "end": "At the end of the machine's turn",
    "order": "Only when a person orders it",
    "provider": "Only on machines whose disks a provider holds, or on their hosts",
}
SYSTEMS = {"apt": "apt", "rpm": "dnf, yum, zypper", "image": "images", "windows_update": "Windows"}
HEAD = """\
# What the machine runs, for its owner

These are all scripts that fleetpatch starts on a machine, in the order of a run. They run as root (Windows: as an
administrator), with [one environment](on-the-machine.md#the-environment-of-scripts). Each is a file below
`tasks/machines`. A script may begin with functions of other files, which do nothing by themselves. Every decision is
made on the controller. Each change is in the [journal](../reference/records.md) before it begins. With
[the broker](../how-to/least-privilege.md), a login runs only signed scripts.

The tables are written from the scripts, and a test compares both: `python -m tests.ci.root_scripts --write`.
"""


@dataclass(frozen=True)
class RootScript:
    """A script that is started by itself, as its head describes it."""

    path: Path
    purpose: str
    step: str
    changes: str

    @property
    def systems(self) -> str:
        """Where it runs."""
        names = {part for part in self.path.relative_to(MACHINES).parts if part in SYSTEMS}
        return next((SYSTEMS[name] for name in names), "Windows" if self.path.suffix == ".ps1" else "Linux")


def find_started_files() -> list[Path]:
    """Return the scripts that no other one takes as its functions."""
    files = sorted(file for suffix in ("sh", "ps1") for file in MACHINES.rglob(f"*.{suffix}"))
    used: set[tuple[str, str]] = set()
    for file in files:
        for kind, names in re.findall(r"^# (Requires|Brings): (.+)$", file.read_text(), re.MULTILINE):
            used |= {(name.rpartition("=")[2] if kind == "Brings" else name, file.suffix) for name in names.split(", ")}
    return [file for file in files if (file.stem, file.suffix) not in used]


def read_head(file: Path) -> RootScript:
    """Return what the head of a script says. ValueError: it lacks a line, or names no step."""
    head = re.match(r"(?:#[^\n]*\n)+", file.read_text())
    lines = [line.lstrip("#").strip() for line in (head[0] if head else "").splitlines() if not line.startswith("#!")]
    words = " ".join(line for line in lines if not line.startswith("shellcheck"))
    purpose = re.split(r"(?<=[.]) ", words)[0].rstrip(".").removeprefix("fleetpatch-broker: ")
    purpose = purpose.rpartition(": ")[0] if len(purpose) > MAX_PURPOSE and ": " in purpose else purpose
    purpose = purpose[:1].upper() + purpose[1:]
    fields = dict(re.findall(r"^# (Step|Changes): (.+)$", head[0] if head else "", re.MULTILINE))
    if fields.keys() != {"Step", "Changes"} or fields["Step"] not in STEPS or not purpose:
        raise ValueError(
            f"{file}: its first comment lacks its purpose, '# Step: ' ({', '.join(STEPS)}) or '# Changes: '"
        )
    return RootScript(file, purpose, fields["Step"], fields["Changes"])


def build_page() -> str:
    """Return the text of the page."""
    scripts = [read_head(file) for file in find_started_files()]
    parts = [HEAD]
    for step, title in STEPS.items():
        rows: dict[tuple[str, str], tuple[str, list[str]]] = {}
        for script in scripts:
            if script.step == step:
                key = (script.path.stem, script.changes)
                earlier = rows.get(key)
                systems = [*(earlier[1] if earlier else []), script.systems]
                rows[key] = (earlier[0] if earlier else script.purpose, list(dict.fromkeys(systems)))
        parts.append(f"\n## {title}\n\n| script | on | purpose | changes |\n|---|---|---|---|\n")
        parts += [
            f"| `{name}` | {', '.join(systems)} | {purpose} | {changes if changes == NOTHING else f'**{changes}**'} |\n"
            for (name, changes), (purpose, systems) in sorted(rows.items(), key=lambda row: row[0][1] != NOTHING)
        ]
    return "".join(parts)


def find_changing_starts() -> Iterator[tuple[Path, str]]:
    """Yield the scripts that the code starts as what changes a machine: file of the code, name of the script."""
    for folder in ("tasks", "flows"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(file.read_text())
            constants = {
                target.id: node.value.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name)
            }
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
                called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
                first = call.args[0]
                name = constants.get(first.id) if isinstance(first, ast.Name) else getattr(first, "value", None)
                changing = any(
                    word.arg == "read_only" and getattr(word.value, "value", False) is not True
                    for word in call.keywords
                )
                if called in {"Script", "build_shared_script"} and isinstance(name, str) and changing:
                    yield file, name


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(build_page())
    else:
        print(build_page())
