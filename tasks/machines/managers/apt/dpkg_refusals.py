"""What dpkg would refuse, what it only remarks, and which file systems apt's hooks mount writable. Pure.

The words are those of dpkg 1.19 to 1.22 (src/main/enquiry.c, lib/dpkg/db-fsys-override.c).
"""

import re
from collections.abc import Mapping
from typing import Final

from inventory.name_lists import join_first_names
from tasks.machines.managers.script_output import ScriptSection, get_text
from tasks.machines.managers.tool_errors import describe_failure, find_tool_error

_MISSING_FILE_PATTERN: Final = re.compile(r"are missing the (\S+) control file")
_FOREIGN_PATTERN: Final = re.compile(r"do not have an architecture|have an (?:illegal|unknown foreign) architecture")
_UNFINISHED_PATTERN: Final = re.compile(
    r"are in a mess|not yet configured|half (?:configured|installed)|trigger processing|awaiting processing"
)
"""Packages whose state tells the same. apt runs pending triggers by itself."""
_HOOK_MOUNT_PATTERN: Final = re.compile(
    r"(?:[\s({!]|\S+\)\s|[A-Za-z_]\w*=\S*\s|(?:if|while|then|else|do|exec|sudo|env)\s)*+(?:/\S*/)?mount\s(.*)"
)
"""A command that mounts, behind what may stand before it in a shell's line."""
_WRITABLE_PATTERN: Final = re.compile(
    r"(?:^|\s)(?:-\w*o\s*|--options[\s=])(?:\S*,)?rw\b|(?:^|\s)(?:-w|--rw|--read-write)\b"
)
_PATH_PATTERN: Final = re.compile(r"(?<![\w./-])/[\w./-]*")
EVERYWHERE: Final = "*"
"""In ``find_remounted``: a script chooses the file systems."""


def parse_audit(section: ScriptSection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what ``dpkg --audit`` says beside the states of packages: problems, and remarks on what stops nothing.

    It has sections of a sentence, in one or more lines, and the indented packages that it names.
    """
    problems, remarks = list[str](), list[str]()
    for block in section.text.split("\n\n"):
        lines = block.splitlines()
        sentence = " ".join(line.strip() for line in lines if not line.startswith(" "))
        names = [line.split()[0] for line in lines if line.startswith(" ") and line.strip()]
        if not names or _UNFINISHED_PATTERN.search(sentence):
            continue
        if missing := _MISSING_FILE_PATTERN.search(sentence):
            lost = "the list of its files" if missing[1] == "list" else f"the file {missing[1]}"
            remarks.append(
                f"dpkg's database lacks {lost} of {join_first_names(names)}: apt-get install --reinstall writes it anew"
            )
        elif _FOREIGN_PATTERN.search(sentence):
            remarks.append(f"dpkg --audit: {sentence} {join_first_names(names)}")
        else:
            problems.append(f"dpkg --audit: {sentence} {', '.join(names)}")
    if section.exit_code and not problems:
        problems.append(describe_failure(f"dpkg --audit ended with {section.exit_code}", section.stderr))
    return tuple(problems), tuple(remarks)


def find_refusals(sections: Mapping[str, ScriptSection]) -> tuple[str, ...]:
    """Return why dpkg would end before it changes anything: files of its database, and owners that are gone."""
    faults = list[str]()
    for name in ("files", "overrides"):  # 1: there is none
        if name in sections and sections[name].exit_code > 1:
            faults.append(find_tool_error(sections[name].stderr))
    accounts = {kind: get_text(sections, f"{kind}s").splitlines() for kind in ("user", "group")}
    known = {kind: {line.partition(":")[0] for line in lines} for kind, lines in accounts.items()}
    for line in get_text(sections, "overrides").splitlines():
        user, group, _, path = (*line.split(maxsplit=3), "", "", "", "")[:4]
        faults += [
            f"its statoverride of {path} has the {kind} {name}, which does not exist: dpkg-statoverride --remove {path}"
            f", or add that {kind}"
            for kind, name in (("user", user), ("group", group))
            if path and name != "root" and not name.startswith("#") and name not in known[kind]
        ]
    return tuple(f"dpkg would refuse every transaction: {fault}" for fault in dict.fromkeys(faults))


def find_remounted(hooks: str) -> tuple[str, ...]:
    """Return the mount points that apt's hooks mount writable before dpkg runs; EVERYWHERE if a script chooses them.

    ``hooks`` has ``apt-config dump DPkg::Pre-Invoke``, and the lines of its scripts that mount something.
    """
    mounts: dict[str, None] = {}
    for line in hooks.splitlines():
        code = re.sub(r"^DPkg::Pre-Invoke\S* |[\"']|(?:^|\s)#.*", "", line)
        for command in filter(None, map(_HOOK_MOUNT_PATTERN.fullmatch, re.split(r"[;&|]", code))):
            paths = _PATH_PATTERN.findall(command[1])
            if _WRITABLE_PATTERN.search(command[1]):
                mounts |= dict.fromkeys(paths if paths and "$" not in command[1] else [EVERYWHERE])
    return tuple(path.rstrip("/") or "/" for path in mounts)
