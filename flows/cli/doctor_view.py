"""Readiness on the screen: a mark for each check of each machine, and below it what is wrong and the remedy."""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Column
from rich.text import Text

from flows.cli.exits import Code
from flows.cli.run_view import mark
from flows.cli.screen import lines_of, safe, say, solid, state, table
from flows.doctor import CHECKS, LISTS, OWN, Readiness, worst
from tasks.model import Finding
from tasks.reporting.text import one_line, plural
from tasks.rules.checks import LOCK
from tasks.states import FindingLevel

NAMES_SHOWN = 6
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "reach": ("reach",),
    "key": ("host key",),
    "login": ("login",),
    "root": ("privilege",),
    "facts": ("facts",),
    "clock": ("clock",),
    "disk": ("disk",),
    "pkgs": ("packages", "repositories", LOCK, LISTS),
    "boot": ("pending-reboot",),
    "auto": ("auto-updater",),
    "held": ("held",),
}
_VERDICTS = {FindingLevel.GOOD: "ready", FindingLevel.WARN: "ready", FindingLevel.BLOCK: "not ready"}


def verdict(level: FindingLevel) -> Text:
    """Return whether a machine is ready, in a word."""
    text = state(_VERDICTS[level])
    return Text.assemble(text, (" !", "yellow")) if level is FindingLevel.WARN else text


def code_of(ours: Sequence[Finding], machines: Sequence[Readiness]) -> Code:
    """Return the exit code: what is worst decides."""
    if worst(ours) is FindingLevel.BLOCK:
        return Code.UNABLE
    levels = {each.level for each in machines} | {worst(ours)}
    if FindingLevel.BLOCK in levels:
        return Code.FAILED
    return Code.WARNINGS if FindingLevel.WARN in levels else Code.GOOD


def doctor_document(
    ours: Sequence[Finding], machines: Sequence[Readiness], server: Sequence[Finding] = ()
) -> dict[str, object]:
    """Return it as JSON data."""
    return {
        "fleetpatch": [_finding(each) for each in ours],
        "server": [_finding(each) for each in server],
        "machines": [
            {
                "machineName": each.machine,
                "ready": each.level is not FindingLevel.BLOCK,
                "level": each.level.value,
                "findings": [_finding(finding) for finding in each.findings],
            }
            for each in machines
        ],
        "exitCode": int(code_of((*ours, *server), machines)),
    }


def tell_ourselves(found: Sequence[Finding]) -> None:
    """Show what was found of fleetpatch itself: all of it only when something is wrong."""
    if worst(found) is FindingLevel.GOOD:
        say(Text.assemble(mark(FindingLevel.GOOD), " fleetpatch itself: libraries, packages and records are fine"))
        return
    _tell_each(found)


def tell_server(found: Sequence[Finding]) -> None:
    """Show what was found of the Prefect server: all of it, as each line is another part that has to work."""
    _tell_each(found)


def _tell_each(found: Sequence[Finding]) -> None:
    for each in found:
        say(Text.assemble(mark(each.level), " ", (each.check, "bold"), ": ", safe(each.message)))
        if each.remedy and each.level is not FindingLevel.GOOD:
            say(Text.assemble("    ", safe(each.remedy, "dim")))


def tell_machines(found: Sequence[Readiness]) -> None:
    """Show machines as a table of marks, then every warning and fault once, with the machines that have it."""
    own = any(_own(each) for each in found)
    shorts = (*_COLUMNS, *(["own"] if own else []))
    grid = table(solid("machine"), solid(""), *(Column(short, justify="center", no_wrap=True) for short in shorts))
    grid.padding = (0, 0, 0, 0)  # a dozen columns of one mark each
    for each in found:
        theirs = _own(each)
        marks = [mark(worst(theirs)) if theirs else Text("·", style="dim")] if own else []
        grid.add_row(safe(each.machine), verdict(each.level), *_marks(each), *marks)
    say("", grid)
    for (check, level, message, remedy), names in _together(found).items():
        whom = ", ".join(one_line(name) for name in lines_of(names, NAMES_SHOWN))
        say("", Text.assemble(mark(level), " ", (check, "bold"), ": ", safe(message), (f"  [{whom}]", "cyan")))
        if remedy:
            say(Text.assemble("    ", safe(remedy)))
    ready = sum(each.level is not FindingLevel.BLOCK for each in found)
    verb = "is" if len(found) == 1 else "are"
    say("", f"{ready} of {plural(len(found), 'machine')} {verb} ready.")


def _own(machine: Readiness) -> list[Finding]:
    """Return what the checks of the machine's owner answered."""
    return [each for each in machine.findings if each.check.startswith(OWN)]


def _marks(machine: Readiness) -> list[Text]:
    """Return a mark for each check; a dot where it could not be asked."""
    findings = machine.findings
    reached = max((CHECKS.index(each.check) for each in findings if each.check in CHECKS), default=-1)
    blocked = any(each.level is FindingLevel.BLOCK and CHECKS.index("facts") >= reached for each in findings)
    complete = not blocked and not machine.is_unread
    marks = []
    for checks in _COLUMNS.values():
        mine = [each for each in findings if each.check in checks]
        position = CHECKS.index(checks[0])
        if mine:
            marks.append(mark(worst(mine)))
        else:
            marks.append(mark(FindingLevel.GOOD) if complete or position < reached else Text("·", style="dim"))
    return marks


def _together(found: Iterable[Readiness]) -> dict[tuple[str, FindingLevel, str, str], list[str]]:
    """Return what is not good, faults first, with the names of the machines that share it."""
    groups: dict[tuple[str, FindingLevel, str, str], list[str]] = {}
    for each in found:
        for finding in each.findings:
            if finding.level is not FindingLevel.GOOD:
                key = (finding.check, finding.level, finding.message, finding.remedy)
                groups.setdefault(key, []).append(each.machine)
    return dict(sorted(groups.items(), key=lambda item: (item[0][1] is not FindingLevel.BLOCK, _position(item[0][0]))))


def _position(check: str) -> int:
    return CHECKS.index(check) if check in CHECKS else len(CHECKS)


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "message": finding.message,
        "remedy": finding.remedy,
    }
