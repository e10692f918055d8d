"""Looks at all PowerShell scripts: whether Windows PowerShell 5.1 can run those for machines, and the analyzer's rules.

    python -m tests.ci.powershell_scripts

It needs ``pwsh`` with PSScriptAnalyzer. Without it, it says so, and fails only in CI. What was found good once is not
looked at again: ``build/powershell_scripts.json`` has the hashes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.ci import tree

LOOK = Path(__file__).with_suffix(".ps1")
KNOWN = tree.TOP / "build" / "powershell_scripts.json"
LONGEST_LINE = 120
SUFFIXES = {".ps1", ".psm1", ".psd1"}
ROOMS_OF_MACHINES = ("tasks/",)  # what is sent to machines; all other scripts run here
SECONDS = 900


def find_form_faults(name: str, content: bytes) -> list[str]:
    """Return what is wrong with a script's form. In 5.1, what is not ASCII depends on the machine's code page."""
    lines = content.decode("utf-8", "replace").splitlines()
    faults = [f"{name}:{number}: not ASCII: {line}" for number, line in enumerate(lines, 1) if not line.isascii()]
    return faults + [
        f"{name}:{number}: longer than {LONGEST_LINE} characters"
        for number, line in enumerate(lines, 1)
        if len(line) > LONGEST_LINE
    ]


def analyze(pwsh: str, scripts: Iterable[str]) -> dict[str, list[str]]:
    """Return the findings of the analyzer for each script.

    Raises:
        RuntimeError: the analyzer did not look at all of them.
    """
    names = list(scripts)
    wanted = "".join(f"{name}\t{'machine' if name.startswith(ROOMS_OF_MACHINES) else 'here'}\n" for name in names)
    done = subprocess.run(
        [pwsh, "-NoProfile", "-NonInteractive", "-File", str(LOOK)],
        input=wanted, capture_output=True, text=True, check=False, cwd=tree.TOP, timeout=SECONDS,
        # For each command that it does not know, the analyzer looks at all files on PATH: three quarters of its time.
        env={**os.environ, "PATH": "", "TERM": "dumb", "NO_COLOR": "1"},
    )  # fmt: skip
    found: dict[str, list[str]] = {}
    pending: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("looked at "):
            found[line.removeprefix("looked at ")] = pending
            pending = []
        else:
            pending.append(line)
    if done.returncode or set(found) != set(names):
        raise RuntimeError(f"the analyzer failed (exit code {done.returncode}): {done.stderr[-1000:]}{pending}")
    return found


def _hash_script(pwsh: str, content: bytes) -> str:
    # another PowerShell, or other settings, may find more
    return hashlib.sha256(f"{Path(pwsh).resolve()}\n".encode() + LOOK.read_bytes() + content).hexdigest()


def _read_known() -> Mapping[str, str]:
    try:
        known = json.loads(KNOWN.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def check_scripts(pwsh: str, contents: Mapping[str, bytes]) -> list[str]:
    """Return everything that is wrong with scripts."""
    faults = [fault for name, content in contents.items() for fault in find_form_faults(name, content)]
    known, hashes = _read_known(), {name: _hash_script(pwsh, content) for name, content in contents.items()}
    changed = [name for name in contents if known.get(name) != hashes[name]]
    found = analyze(pwsh, changed) if changed else {}
    KNOWN.parent.mkdir(exist_ok=True)
    KNOWN.write_text(json.dumps({name: value for name, value in hashes.items() if not found.get(name)}, indent=1))
    return faults + [finding for findings in found.values() for finding in findings]


def main() -> int:
    """Look at all scripts, and print what is wrong."""
    pwsh = shutil.which("pwsh")
    if pwsh is None:
        print("skipped: no pwsh on PATH")
        return 1 if os.environ.get("CI") else 0
    contents = {tree.name(path): path.read_bytes() for path in tree.files() if path.suffix in SUFFIXES}
    faults = check_scripts(pwsh, contents)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
