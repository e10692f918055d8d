"""rpm-ostree: Fedora CoreOS, Silverblue, IoT and RHEL for Edge. Reads ``rpm-ostree status --json``. Pure.

The fields are those of rpm-ostree's daemon: "deployments" in boot order, and "cached-update", which its last check or
download has left.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.domain.errors import ProtocolViolation
from tasks.domain.model import RepositoryProblem
from tasks.domain.states import Classification
from tasks.machines.managers.image.manager import ImageTool
from tasks.machines.managers.image.state import (
    NEWER_IMAGE,
    ImageState,
    ImageUpdate,
    clean_image_text,
    find_exact_image_problem,
    format_image_version,
)
from tasks.machines.managers.image.state import shorten_digest as shorten
from tasks.machines.managers.running_programs import is_unit_active
from tasks.machines.managers.script_output import ScriptSection

_MAX_ITEMS: Final = 10_000
_MAX_EPOCH_SECONDS: Final = 10**11
_SECURITY_ADVISORY: Final = 1  # libdnf's DnfAdvisoryKind
_SEVERITIES: Final = ("", "Low", "Moderate", "Important", "Critical")  # RpmOstreeAdvisorySeverity
_NEWER_PACKAGES: Final = "newer local packages"
_UNKNOWN_DIGESTS: Final = (NEWER_IMAGE, _NEWER_PACKAGES)
_CVE_PATTERN: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,9}")
_ADVISORY_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._\-]{0,99}")

_LOCKED: Final = "locked: no boot starts it before rpm-ostree finalize-deployment, as an agent such as Zincati calls it"

Names = Annotated[list[str], Field(max_length=_MAX_ITEMS)]


class _OstreeRecord(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=lambda name: name.replace("_", "-"))


class _Deployment(_OstreeRecord):
    checksum: str
    base_checksum: str | None = None
    version: str | None = None
    base_version: str | None = None
    booted: bool = False
    staged: bool = False
    finalization_locked: bool = False
    origin: str | None = None
    container_image_reference: str | None = None
    container_image_reference_digest: str | None = None
    packages: Names = []
    requested_local_packages: Names = []
    base_removals: Annotated[list[Any], Field(max_length=_MAX_ITEMS)] = []
    base_local_replacements: Annotated[list[Any], Field(max_length=_MAX_ITEMS)] = []
    endoflife: str | None = None
    unlocked: str = "none"

    @property
    def image(self) -> str:
        """The reference that it follows."""
        return clean_image_text(self.container_image_reference or self.origin or "")

    @property
    def base(self) -> str:
        """The version of its image, without local packages."""
        label = self.base_version or self.version
        return format_image_version(label, self.container_image_reference_digest or self.base_checksum or self.checksum)

    @property
    def full(self) -> str:
        """The version of its image, with the checksum that local packages give it on this machine only."""
        return f"{self.base} with local packages ({shorten(self.checksum)})" if self.base_checksum else self.base

    @property
    def other_names(self) -> tuple[str, ...]:
        """What it may have been called before it was built."""
        return (
            self.base,
            *(format_image_version(self.base_version or self.version, "", reason) for reason in _UNKNOWN_DIGESTS),
        )


class _LayerSizes(_OstreeRecord):
    added_size: Annotated[int, Field(ge=0, lt=2**62)] | None = None


class _CachedUpdate(_OstreeRecord):
    checksum: str
    version: str | None = None
    timestamp: Annotated[int, Field(ge=0, lt=_MAX_EPOCH_SECONDS)] | None = None
    ref_has_new_commit: bool = False
    deployment: str | None = None
    manifest_diff: _LayerSizes | None = None
    advisories: Annotated[
        list[tuple[str, int, int, list[str], dict[str, list[tuple[str, str]]]]], Field(max_length=_MAX_ITEMS)
    ] = []


class _Driver(_OstreeRecord):
    driver_name: str
    driver_sd_unit: str


class _Status(_OstreeRecord):
    deployments: Annotated[list[_Deployment], Field(max_length=1000)]
    cached_update: _CachedUpdate | None = None
    update_driver: _Driver | None = None


def parse_ostree_status(sections: Mapping[str, ScriptSection]) -> ImageState:
    """Return what ``rpm-ostree status --json`` reports.

    Raises:
        ProtocolViolation: it is not valid, or no deployment is booted.
    """
    try:
        status = _Status.model_validate_json(sections["status"].text)
        booted = next(deployment for deployment in status.deployments if deployment.booted)
    except (KeyError, ValidationError, StopIteration) as error:
        raise ProtocolViolation(f"the status of rpm-ostree can't be understood: {error!s:.300}") from error
    staged = next((deployment for deployment in status.deployments if deployment.staged), None)
    locked = staged if staged and staged.finalization_locked else None
    coming = booted if staged is None or locked else staged
    warnings = _find_warnings(status.deployments, booted)
    driver = status.update_driver
    if driver and "timers" in sections and is_unit_active(sections["timers"].text, driver.driver_sd_unit):
        name, unit = map(clean_image_text, (driver.driver_name, driver.driver_sd_unit))
        warnings.append(
            f"{name} drives the updates of this system. While it works, rpm-ostree refuses others. Pause {unit} in the "
            "run (native_updaters), or switch it off"
        )
    update = _find_update(status.cached_update, staged or booted)
    if locked and update is None:  # rpm-ostree has nothing else to stage
        update = ImageUpdate(locked.full, blocked=f"it is staged, but {_LOCKED}")
    ended: tuple[RepositoryProblem, ...] = ()
    if booted.endoflife:
        message = f"the image has reached its end of life: {clean_image_text(booted.endoflife)}"
        ended = (RepositoryProblem(booted.image[:100], message, "Move the system to an image that is maintained."),)
    return ImageState(
        image=coming.image,
        running=booted.full,
        next=coming.full,
        update=update,
        other_names=coming.other_names,
        warnings=tuple(warnings),
        remarks=_list_local_changes(booted),
        problems=(*find_exact_image_problem(booted.image), *ended),
        was_asked=(status.cached_update or staged) is not None,
    )


def _find_update(cached: _CachedUpdate | None, coming: _Deployment) -> ImageUpdate | None:
    """Return the update of the last check, unless ``coming`` has it already."""
    if cached is None or cached.deployment is not None:  # it describes what is staged
        return None
    label, size = cached.version or coming.version, None
    published = datetime.fromtimestamp(cached.timestamp, UTC) if cached.timestamp else None
    if cached.manifest_diff is not None:  # a container image: its digest is not told before the download
        if coming.staged:
            return None
        version, published, size = format_image_version(label, ""), None, cached.manifest_diff.added_size
    elif not cached.ref_has_new_commit:
        version, published = format_image_version(label, "", _NEWER_PACKAGES), None
    elif shorten(cached.checksum) in {shorten(coming.checksum), shorten(coming.base_checksum or "")}:
        return None
    else:
        version = format_image_version(label, cached.checksum)
    return _with_advisories(ImageUpdate(version, published=published, size_bytes=size), cached)


def _with_advisories(update: ImageUpdate, cached: _CachedUpdate) -> ImageUpdate:
    security = [advisory for advisory in cached.advisories if advisory[1] == _SECURITY_ADVISORY]
    if not security:  # rpm-ostree tells no others, and nothing if the repositories are not configured: not known
        return update
    worst = max(advisory[2] if 0 <= advisory[2] < len(_SEVERITIES) else 0 for advisory in security)
    titles = [title for advisory in security for _, title in advisory[4].get("cve_references", [])]
    return replace(
        update,
        classification=Classification.CRITICAL if _SEVERITIES[worst] == "Critical" else Classification.SECURITY,
        severity=_SEVERITIES[worst],
        advisories=tuple(
            sorted({advisory[0] for advisory in security if _ADVISORY_PATTERN.fullmatch(advisory[0])}, reverse=True)
        ),
        cves=tuple(sorted({cve for title in titles for cve in _CVE_PATTERN.findall(title)})),
    )


def _find_warnings(deployments: Sequence[_Deployment], booted: _Deployment) -> list[str]:
    warnings: list[str] = []
    first = deployments[0]
    if not (first.booted or first.staged):
        warnings.append(
            f"{first.full} is first in the boot order, but {booted.full} is running: the boot fell back to it, or a "
            "rollback waits for the next boot"
        )
    warnings += [
        f"{deployment.full} is staged, but {_LOCKED}"
        for deployment in deployments
        if deployment.staged and deployment.finalization_locked
    ]
    if booted.unlocked not in {"none", ""}:
        warnings.append(
            f"the running image is unlocked ({clean_image_text(booted.unlocked)}): an update drops such changes"
        )
    return warnings


def _list_local_changes(booted: _Deployment) -> tuple[str, ...]:
    """Return what the owner has changed of the image: it is the same at each run."""
    local, remarks = [*booted.packages, *booted.requested_local_packages], list[str]()
    if local:
        names = ", ".join(clean_image_text(name) for name in local[:5])
        remarks.append(f"packages are layered on the image: {names}{' and more' if len(local) > 5 else ''}")
    if booted.base_removals or booted.base_local_replacements:
        remarks.append("packages of the image are overridden locally (rpm-ostree override)")
    return tuple(remarks)


RPM_OSTREE: Final = ImageTool(
    name="rpm-ostree",
    package="tasks.machines.managers.image.rpm_ostree",
    parse_state=parse_ostree_status,
    no_update_codes=(77,),  # RPM_OSTREE_EXIT_UNCHANGED
    timers=("rpm-ostreed-automatic.timer",),
    agents=("zincati.service",),
)
