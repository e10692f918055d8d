"""A made-up package manager, which nothing of the product knows: its own names, versions, tool, scripts and lock.

A parcel is ``@owner/Name``, its versions are numbers, and ``@owner/Name#12`` is a parcel in a version. The tool
``parcel`` is a real program, and its scripts run in a real shell. All that it needs is in this folder.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import Final

from tasks.domain.errors import ProtocolViolation, RequestError
from tasks.domain.model import PackageState, RebootNeed, Update
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.package_manager import (
    LONGEST_POLL_SECONDS,
    InstalledKernels,
    JobKind,
    PackageNeeds,
    Rates,
    SimulationResult,
    Transaction,
    UpdaterMeans,
    WayBack,
)
from tasks.domain.protocols.transport import Script, ScriptParameter, ScriptResult, Transport
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.script_output import require_text

SPEC_PATTERN: Final = re.compile(r"@[A-Za-z]+/[A-Za-z]+#[0-9]+")
LIST_SCRIPT: Final = Script("parcel_list", package=__name__)
JOB_SCRIPT: Final = Script("parcel_job", read_only=False, package=__name__)

# The tool's database is a folder: installed/ and offered/ have a file for each parcel, whose text is its version.
TOOL = """#!/bin/sh
cd {home} || exit 3
each() {{ for file in "$1"/@*/*; do [ ! -f "$file" ] || echo "${{file#"$1"/}} $(cat "$file")"; done; }}
case $1 in
  list) each installed ;;
  offers) each offered ;;
  half) each half ;;
  edited) [ ! -e "edited/$2" ] || echo "{home}/edited/$2" ;;
  put)
    name=${{2%#*}} version=${{2#*#}}
    [ ! -e "broken/$name" ] || {{ echo "parcel: $name is damaged"; exit 9; }}
    [ "$(cat "offered/$name")" = "$version" ] || {{ echo "parcel: $2 is not on offer"; exit 9; }}
    echo "putting $2"; echo "$version" >"installed/$name" ;;
esac
"""


@dataclass(frozen=True, slots=True)
class ParcelHome:
    """The database of parcels, and the tool, of this machine."""

    folder: Path

    @property
    def lock_file(self) -> str:
        """What the tool would lock."""
        return str(self.folder / "lock")

    def set_up(self, tools: Path) -> None:
        """Write the tool into a folder that is in PATH."""
        (tools / "parcel").write_text(TOOL.format(home=self.folder))
        (tools / "parcel").chmod(0o755)
        (self.folder / "lock").touch()

    def add(self, name: str, installed: int, offered: int, *marks: str) -> None:
        """Install a parcel, and offer another version of it.

        Args:
            name: of the parcel.
            installed: the version that is there.
            offered: the version on offer.
            marks: "broken": its update fails; "edited": its configuration file is kept; "half": it is half changed.
        """
        for where, text in {"installed": str(installed), "offered": str(offered), **dict.fromkeys(marks, "")}.items():
            path = self.folder / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def read_version(self, name: str) -> int:
        """Return what is installed now."""
        return int((self.folder / "installed" / name).read_text())


class ParcelManager:
    """The PackageManager of parcels."""

    name = "parcel"
    default_rates = Rates(1.0, 10.0, 1e6, 5.0, 1.0)
    script_package = __name__
    updaters_script: Script | None = None
    updater_means: UpdaterMeans | None = None
    health_script: Script | None = None

    def __init__(self, home: ParcelHome) -> None:
        self.lock_files: tuple[str, ...] = (home.lock_file,)
        self.offers_more_later = False
        self.longest_poll_seconds = LONGEST_POLL_SECONDS
        self.way_back = WayBack()
        self.change_lock_files: tuple[str, ...] = self.lock_files

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """See PackageManager."""
        result = _list_parcels(transport, deadline)
        installed = _parse_versions(result, "installed")
        updates = tuple(
            Update(
                name,
                name,
                "any",
                installed[name],
                version,
                Classification.SECURITY,
                size_bytes=1000,
                changes_boot=name.startswith("@Core/"),
            )
            for name, version in _parse_versions(result, "offered").items()
            if int(version) > int(installed.get(name, version))
        )
        return PackageState(
            self.name,
            updates,
            RebootNeed(YesNoUnknown.NO),
            services_to_restart=("web.service", "parcel-evening.service"),
            updater_units=("parcel-evening*",),
        )

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, keep: Collection[str] = (), deadline: Deadline
    ) -> SimulationResult:
        """See PackageManager."""
        offered = _parse_versions(_list_parcels(transport, deadline), "offered")
        return SimulationResult({update.id: offered[update.id] for update in updates}, download_bytes=0)

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """See PackageManager."""
        installed = _parse_versions(_list_parcels(transport, deadline), "installed")
        return {update.id: installed[update.id] for update in updates if update.id in installed}

    def read_kernels(self, transport: Transport, *, deadline: Deadline) -> InstalledKernels:
        """See PackageManager."""
        return InstalledKernels(obstacle="parcels have no kernel")

    def read_needs(self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline) -> PackageNeeds:
        """See PackageManager."""
        return PackageNeeds(obstacle="parcels do not say who needs them")

    def build_job_script(
        self,
        kind: JobKind,
        transactions: Sequence[Transaction],
        *,
        allowed: Sequence[Update] = (),
        allow_removals: bool = False,
        excluded: Sequence[str] = (),
    ) -> Script:
        """See PackageManager."""
        params: dict[str, ScriptParameter] = {
            "work": kind.value,
            "numbers": tuple(str(each.number) for each in transactions),
        }
        for each in transactions:
            params[f"tx_{each.number}_parcels"] = tuple(map(_build_spec, each.updates))
            params[f"tx_{each.number}_latest_start"] = str(floor(each.latest_start))
        return replace(JOB_SCRIPT, params=params)


def _build_spec(update: Update) -> str:
    spec = f"{update.id}#{update.available}"
    if not SPEC_PATTERN.fullmatch(spec):
        raise RequestError(f"not a parcel: {spec!r}")
    return spec


def _list_parcels(transport: Transport, deadline: Deadline) -> ScriptResult:
    result = transport.run_script(LIST_SCRIPT, deadline=deadline)
    if result.exit_code:
        raise ProtocolViolation(f"parcel_list ended with {result.exit_code}")
    return result


def _parse_versions(result: ScriptResult, kind: str) -> dict[str, str]:
    lines = (require_text(record, "parcel") for record in result.find_records(kind))
    return {name: version for name, _, version in (line.partition(" ") for line in lines)}
