"""bootc: image mode of RHEL, CentOS and Fedora. Reads ``bootc status --json``. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from tasks.domain.errors import ProtocolViolation
from tasks.machines.managers.image.manager import ImageTool
from tasks.machines.managers.image.state import (
    ImageState,
    ImageUpdate,
    clean_image_text,
    find_exact_image_problem,
    format_image_version,
)
from tasks.machines.managers.script_output import ScriptSection


class _BootcRecord(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)


class _Reference(_BootcRecord):
    image: str


class _Image(_BootcRecord):
    image: _Reference
    version: str | None = None
    timestamp: datetime | None = None
    image_digest: str

    @property
    def full(self) -> str:
        """Its version."""
        return format_image_version(self.version, self.image_digest)

    @property
    def built(self) -> datetime | None:
        """When it was built, if it says so with its time zone."""
        return self.timestamp if self.timestamp and self.timestamp.tzinfo else None

    def is_older_than(self, other: "_Image") -> bool:
        """Return whether both say when they were built, and this one was earlier."""
        return self.built is not None and other.built is not None and self.built < other.built


class _BootEntry(_BootcRecord):
    image: _Image | None = None
    cached_update: _Image | None = None
    incompatible: bool = False
    download_only: bool = False


class _Slots(_BootcRecord):
    staged: _BootEntry | None = None
    booted: _BootEntry | None = None
    rollback: _BootEntry | None = None
    rollback_queued: bool = False


class _Host(_BootcRecord):
    status: _Slots


def parse_bootc_status(sections: Mapping[str, ScriptSection]) -> ImageState:
    """Return what ``bootc status --json`` reports.

    Raises:
        ProtocolViolation: it is not valid, or no image is booted.
    """
    try:
        slots = _Host.model_validate_json(sections["status"].text).status
    except (KeyError, ValidationError) as error:
        raise ProtocolViolation(f"the status of bootc can't be understood: {error!s:.300}") from error
    if slots.booted is None or slots.booted.image is None:
        raise ProtocolViolation("bootc names no booted image")
    booted = slots.booted.image
    staged = slots.staged.image if slots.staged and not slots.staged.download_only else None
    coming = staged or booted
    downloaded = slots.staged.image if slots.staged and slots.staged.download_only else None
    cached = slots.booted.cached_update
    if cached and cached.is_older_than(coming):  # of a check before the coming image was staged
        cached = None
    newer = cached or downloaded
    update = None
    if newer is not None and newer.image_digest != coming.image_digest:
        blocked = "packages are layered on it with rpm-ostree, and bootc can't update such a system"
        update = ImageUpdate(newer.full, published=newer.built, blocked=blocked if slots.booted.incompatible else "")
    return ImageState(
        image=clean_image_text(coming.image.image),
        running=booted.full,
        next=coming.full,
        update=update,
        warnings=tuple(_find_warnings(slots)),
        problems=find_exact_image_problem(booted.image.image),
        was_asked=(cached or slots.staged) is not None,
    )


def _find_warnings(slots: _Slots) -> list[str]:
    warnings: list[str] = []
    if slots.rollback_queued and slots.rollback and slots.rollback.image:
        warnings.append(f"a rollback is queued: the next boot starts {slots.rollback.image.full}")
    if slots.booted and slots.booted.incompatible:
        warnings.append("the system has local changes that bootc does not understand (rpm-ostree)")
    return warnings


BOOTC: Final = ImageTool(
    name="bootc",
    package="tasks.machines.managers.image.bootc",
    parse_state=parse_bootc_status,
    timers=("bootc-fetch-apply-updates.timer", "rpm-ostreed-automatic.timer"),
)
