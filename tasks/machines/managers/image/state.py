"""What an image-based system runs, starts next and can update to, and the package state that follows from it. Pure.

Such a system has one update: its next image or snapshot, as a whole. A version is "LABEL (DIGEST)": the publisher's
label, and the first digits of the image's digest, which identify it.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.model import PackageState, RebootNeed, RepositoryProblem, Update
from tasks.domain.states import Classification, YesNoUnknown
from tasks.machines.managers.script_output import clean_text

UPDATE_ID: Final = "deployment"
DIGEST_LENGTH: Final = 12
NEWER_IMAGE: Final = "newer image"
"""Stands for the digest of an image whose tool reports only that it is another one."""

_MAX_TEXT_LENGTH: Final = 200
_DIGEST_PATTERN: Final = re.compile(r"(?:[a-z0-9+._-]{1,20}:)?([0-9a-f]{32,128})")
_IDENTITY_PATTERN: Final = re.compile(rf"\(([0-9a-f]{{{DIGEST_LENGTH}}})\)$")
_NO_ADVISORIES_WARNING: Final = (
    "the image's publisher gives no advisories to its update, so whether it fixes security faults is not known"
)


@dataclass(frozen=True, slots=True)
class ImageUpdate:
    """The newer image that the system can get.

    Attributes:
        version: "LABEL (DIGEST)".
        classification: UNCLASSIFIED when its advisories are unknown.
        cves: None when unknown.
        blocked: why it can't be installed, or "".
    """

    version: str
    classification: Classification = Classification.UNCLASSIFIED
    severity: str = ""
    advisories: tuple[str, ...] = ()
    cves: tuple[str, ...] | None = None
    size_bytes: int | None = None
    published: datetime | None = None
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class ImageState:
    """What the tool of an image-based system reports.

    Attributes:
        image: name of the image: a container image, an OSTree reference or a product.
        running: version that is booted.
        next: version that the next boot starts; a newer one waits for a reboot when it differs from ``running``.
        update: the newer image, if any.
        other_names: other versions that ``next`` fulfils, if the tool could only report them before the installation.
        warnings: what the owner must handle: a rollback, a boot that fell back.
        remarks: what the owner has decided: local packages, overrides.
        problems: why a newer image may be missed: a source that was not read, or that has none any more.
        was_asked: whether the tool keeps what an earlier check of its source found.
    """

    image: str
    running: str
    next: str
    update: ImageUpdate | None = None
    other_names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    problems: tuple[RepositoryProblem, ...] = ()
    was_asked: bool = True

    def fulfils(self, update: Update) -> bool:
        """Return whether the next boot starts what this update is to install."""
        return self.next == update.available or (self.next != update.installed and update.available in self.other_names)


def build_image_package_state(
    manager: str,
    state: ImageState,
    *,
    at_work: str = "",
    auto_updaters: Sequence[tuple[str, float | None]] = (),
    updater_units: tuple[str, ...] = (),
) -> PackageState:
    """Return the package state of an image-based system.

    Args:
        manager: the package manager's name.
        state: what its tool reports.
        at_work: the process that changes deployments now; "" for none.
        auto_updaters: the system's own updaters that may act.
        updater_units: masks of all such services.
    """
    reboot = RebootNeed(YesNoUnknown.NO)
    if state.next != state.running:
        reason = f"{state.next} is staged for the next boot, {state.running} is running"
        reboot = RebootNeed(YesNoUnknown.YES, (reason,))
    unknown = state.update is not None and state.update.classification is Classification.UNCLASSIFIED
    return PackageState(
        manager=manager,
        updates=() if state.update is None else (_build_update(state, state.update),),
        reboot=reboot,
        lock_holder=at_work,
        at_work=at_work,
        auto_updaters=tuple(auto_updaters),
        warnings=(*state.warnings, *((_NO_ADVISORIES_WARNING,) if unknown else ())),
        updater_units=updater_units,
        remarks=state.remarks,
        repository_problems=state.problems,
    )


def find_exact_image_problem(image: str) -> tuple[RepositoryProblem, ...]:
    """Return a problem if a system follows a digest: whatever is published, no tool offers it anything newer."""
    if "@sha256:" not in image:
        return ()
    message = "the system follows one exact image (a digest): nothing newer is offered to it"
    return (
        RepositoryProblem(clean_image_text(image)[:100], message, "Let it follow a tag, or another tool judge it."),
    )


def _build_update(state: ImageState, update: ImageUpdate) -> Update:
    return Update(
        id=UPDATE_ID,
        name=state.image,
        arch="",
        installed=state.next,
        available=update.version,
        classification=update.classification,
        severity=update.severity,
        origins=(state.image,),
        cves=update.cves,
        size_bytes=update.size_bytes,
        blocked=update.blocked,
        requires_reboot=True,
        published=update.published,
        changes_boot=True,
        advisories=update.advisories,
    )


def shorten_digest(digest: str) -> str:
    """Return the first digits of "sha256:…" or of an OSTree checksum; "" if it is neither."""
    match = _DIGEST_PATTERN.fullmatch(digest)
    return match[1][:DIGEST_LENGTH] if match else ""


def format_image_version(label: str | None, digest: str, unknown: str = NEWER_IMAGE) -> str:
    """Return a version: "41.20250101.0 (0123456789ab)"; ``unknown`` stands for a digest that is not known."""
    return f"{clean_text(label or 'image')} ({shorten_digest(digest) or unknown})"


def find_image_digest(version: str) -> str:
    """Return the digits of the digest in a version, or "" if it has none."""
    match = _IDENTITY_PATTERN.search(version)
    return match[1] if match else ""


def clean_image_text(text: str) -> str:
    """Return a name from the machine in one line, without control characters and limited in length."""
    return clean_text(text)[:_MAX_TEXT_LENGTH]
