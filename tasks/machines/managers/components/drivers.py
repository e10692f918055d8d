"""The kinds of components, one driver each: what it asks a machine, what the answer means, and what its job is told.

The commands are in the scripts ``component_versions`` and ``component_job``, for POSIX systems and for Windows. A new
kind is a member of ComponentKind, a row here, and a branch in those scripts.
"""

import re
from collections.abc import Mapping
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.components import Component, ComponentVersion, InstalledComponent
from tasks.domain.protocols.transport import ScriptParameter
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.machines.managers.script_output import ENDED_CODES, ScriptSection, clean_text
from tasks.rules.components.versions import MAX_VERSION_LENGTH

QUESTION_SECONDS: Final = 30
"""How long a machine may take to tell the version of one component."""
_NOT_FOUND_CODE: Final = 127
"""A shell's exit code when the command does not exist."""
_MAX_PROBLEM_LENGTH: Final = 200
MAX_ANSWER_CHARACTERS: Final = 16 * 1024
"""So much of an answer is read, in whole lines: a pattern may need the square of that, and holds this process up."""


@dataclass(frozen=True, slots=True)
class ComponentDriver:
    """One kind of component."""

    kind: ComponentKind
    version_pattern: str = r"(\S+)"  # finds the version in the answer of the kind's own question, as its one group
    absent_pattern: str = ""  # finds in the answer that nothing is installed; "": nothing is printed then

    def build_question(self, component: Component) -> Mapping[str, ScriptParameter]:
        """Return what the script ``component_versions`` is told of a component."""
        return {
            "kind": self.kind.value,
            "package": component.package or component.name,
            "command": component.version_command,
        }

    def parse_answer(self, component: Component, answer: ScriptSection) -> InstalledComponent:
        """Return what a machine said. What can't be understood is not known: it is never "not installed"."""
        text = _cut(answer.text)
        everything = f"{text}\n{_cut(answer.stderr)}"
        name, code = component.name, answer.exit_code
        if code in ENDED_CODES:
            return InstalledComponent(name, problem=f"the question for its version took over {QUESTION_SECONDS} s")
        is_absent = bool(self.absent_pattern) and re.search(self.absent_pattern, everything, re.MULTILINE) is not None
        is_silent = code == 0 and not answer.text.strip()
        if code == _NOT_FOUND_CODE or is_silent or (is_absent and not component.version_command):
            return InstalledComponent(name)
        if code != 0:
            return InstalledComponent(
                name, problem=f"the question for its version ended with {code}: {_shorten(everything)}"
            )
        pattern = component.version_pattern or self.version_pattern
        versions = list(dict.fromkeys(re.findall(pattern, text, re.MULTILINE)))
        if not versions or not versions[0] or len(versions[0]) > MAX_VERSION_LENGTH:
            return InstalledComponent(name, problem=f"no version can be found in the answer: {_shorten(text)}")
        if len(versions) > 1 and not component.version_command:
            return InstalledComponent(name, problem=f"several versions are installed: {_shorten(', '.join(versions))}")
        return InstalledComponent(name, clean_text(versions[0]))

    def build_installation(
        self, component: Component, version: ComponentVersion, before: ComponentVersion | None, *, goes_back: bool
    ) -> Mapping[str, ScriptParameter]:
        """Return what the script ``component_job`` is told: which version of which component comes, and how.

        ``before`` is the version that is there, whose file must be on the machine for the way back; None: none is
        needed. ``goes_back``: ``version`` is put back.
        """
        command = component.roll_back if goes_back and component.roll_back else component.install
        return {
            "kind": self.kind.value,
            "component": component.name,
            "package": component.package or component.name,
            "version": version.version,
            "reference": version.reference,
            "url": version.url,
            "sha256": version.digest.removeprefix("sha256:"),
            "before_url": before.url if before is not None else "",
            "before_sha256": before.digest.removeprefix("sha256:") if before is not None else "",
            "command": command,
            "settings": tuple(f"{name}={value}" for name, value in sorted(component.settings.items())),
            "keep": tuple(known.digest.removeprefix("sha256:") for known in component.versions if known.digest),
        }


def _cut(text: str) -> str:
    """Return the beginning of a text. Half a line could hold half a version."""
    return text if len(text) <= MAX_ANSWER_CHARACTERS else text[:MAX_ANSWER_CHARACTERS].rpartition("\n")[0]


def _shorten(text: str) -> str:
    return clean_text(text)[-_MAX_PROBLEM_LENGTH:]


_RPM_ABSENT: Final = r"^package .* is not installed$"
_DPKG_ABSENT: Final = r"^(not-installed|config-files) |no packages found matching"
_DRIVERS: Final = (
    ComponentDriver(ComponentKind.FILE),
    ComponentDriver(ComponentKind.DEB, r"^installed (\S+)$", _DPKG_ABSENT),
    ComponentDriver(ComponentKind.RPM, r"^(\S+)$", _RPM_ABSENT),
    ComponentDriver(ComponentKind.MSI, r"^(\S+)$"),
    ComponentDriver(ComponentKind.PACKAGE, r"^(?:installed )?(\S+)$", f"{_DPKG_ABSENT}|{_RPM_ABSENT}"),
    ComponentDriver(ComponentKind.SNAP, r"^version (\S+)$", r"no matching snaps installed"),
    ComponentDriver(ComponentKind.FLATPAK, r"^[ \t]*Version: (\S+)$", r"not installed$"),
    ComponentDriver(ComponentKind.WINGET, r"^(\S+)$"),
    ComponentDriver(ComponentKind.CHOCO, r"^[^|\n]+\|(\S+)$"),
)
DRIVERS: Final[Mapping[ComponentKind, ComponentDriver]] = {driver.kind: driver for driver in _DRIVERS}


def find_driver(component: Component) -> ComponentDriver:
    """Return the driver of a component."""
    return DRIVERS[ComponentKind(component.kind)]
