"""The format of images.yaml: images with their versions, and groups of machines that get them as OS disks."""

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import Field, StringConstraints, model_validator

from flows.components.component_file import Catalogue, HealthChecks, VersionText
from flows.images.signatures import UntrustedList, read_signed_text
from flows.request.base import FormModel
from inventory.data_class import dataclass
from inventory.errors import InvalidFiles, InvalidInventory, InventoryError
from inventory.files.located_yaml import iterate_entries, parse_yaml
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_binary_file, read_text_file
from inventory.machine import Check, OsFamily
from inventory.named_files import IMAGES_FILE
from inventory.schema.validation import validate_mapping
from inventory.schema.value_types import build_validation_error
from inventory.scope import Scope
from tasks.domain.components import Component, ComponentVersion
from tasks.domain.images import IMAGE_PREFIX, ImageModel, ImageScript, RolloutLimits
from tasks.rules.components.versions import VersionRank, rank_version
from tasks.rules.images.checksums import read_checksums
from tasks.rules.images.user_data import OWN_KEYS

_MAX_FILE_BYTES: Final = 64 * 1024
_MAX_INDEX_BYTES: Final = 4 * 1024 * 1024

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128})$")]
ImageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,2}$")]
GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Percent = Annotated[int, Field(ge=5, le=100)]


class InvalidImages(InvalidFiles):
    """All problems of a file of images. No machine gets a new OS disk until they are corrected."""

    subject = "images"


class ImageVersionForm(FormModel):
    """One version of an image."""

    version: VersionText = Field(description="Ordered as versions of software are, such as 12.7 or 20261101.")
    reference: Text = Field(description="The provider makes a disk from it: a path on its host, a template, an AMI.")
    digest: Digest | None = Field(
        default=None,
        description="Of that file, if the reference is one: `sha256:` or `sha512:`, and what the tool prints.",
    )
    withdrawn: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="Why no machine gets it any more."
    )


class IndexForm(FormModel):
    """A list of files with their SHA-256 or SHA-512, as publishers have it. Each file whose name fits is a version."""

    file: Text = Field(
        description="The list, relative to images.yaml. A new line in it is a new version. With `url`, `images fetch` "
        "adds the line of each image that it has fetched."
    )
    pattern: Text = Field(description="Finds the version in the name of a file, by its one group.")
    folder: Text = Field(description="Where the files are for the provider: the reference is this folder and the name.")
    url: Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^/@\s]+/[^\s?#]*[^/\s?#]$")] | None = (
        Field(
            default=None,
            description="The list of the publisher, with its images beside it. A `*` stands for the newest version "
            "in the name of a folder or of the list. `https`, or with a `keyring`.",
        )
    )
    keyring: Text | None = Field(
        default=None, description="The keys that may sign the list, relative to images.yaml, as `gpgv` reads them."
    )
    signature: Text | None = Field(
        default=None, description="The file of the signature, beside the list. Without it, the list itself is signed."
    )

    @model_validator(mode="after")
    def _check_pattern(self) -> "IndexForm":
        if self.keyring is None and (self.signature or (self.url or "").startswith("http:")):
            raise build_validation_error(
                "nobody's signature can be checked without keys", "Give `keyring`, and `https`."
            )
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise build_validation_error(f"this is no regular expression: {error}", "Correct `pattern`.") from None
        if groups != 1:
            raise build_validation_error(f"this expression has {groups} groups", "Give it one group: the version.")
        return self


class ImageForm(FormModel):
    """One image: a publisher, an offer and a channel, with its versions."""

    name: ImageName = Field(description="publisher/offer/channel, unique in the file.")
    versions: list[ImageVersionForm] = Field(default=[], max_length=500, description="Its versions.")
    index: IndexForm | None = Field(default=None, description="More versions, from a list of files with digests.")


class IdentityForm(FormModel):
    """What a new OS disk keeps of the machine's identity."""

    host_keys: bool = Field(
        default=True,
        description="cloud-init writes the host keys of SSH of the old disk. `false`: your image or your provider "
        "keeps them. A machine that answers with another key is never trusted: its disk is put back.",
    )
    machine_id: bool = Field(default=True, description="cloud-init writes the machine id of the old disk.")
    network: bool = Field(
        default=True,
        description="cloud-init gets the static addresses, routes and name servers that the machine has. `false`: your "
        "image or your user data brings them.",
    )


class GroupForm(FormModel):
    """A group of machines that get the versions of an image as OS disks."""

    name: GroupName = Field(description="Its name, unique in the file.")
    image: ImageName = Field(description="The image that its machines get.")
    scope: Annotated[str, StringConstraints(min_length=1, max_length=1500)] = Field(description="Its machines.")
    automatic: bool = Field(
        default=True, description="Whether a new version comes by itself. `false`: a person starts each upgrade."
    )
    disable_automatic_rollback: bool = Field(
        default=False, description="Leave a machine that is not healthy with its new disk."
    )
    user_data: Text | None = Field(
        default=None, description="A cloud-config of cloud-init for the first boot, relative to this file."
    )
    scripts: list[Text] = Field(
        default=[], max_length=50, description="Shell scripts, relative to this file, that run there in this order."
    )
    script_minutes: Annotated[float, Field(gt=0, le=120)] = Field(default=10, description="How long each may take.")
    identity: IdentityForm = Field(default=IdentityForm(), description="The identity that the new disk keeps.")
    health: HealthChecks = Field(default=[], description="Checks beside the probes of the machines.")
    health_minutes: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = Field(
        default=5, description="How long a machine may take to be healthy, from when it answers again."
    )
    soak_minutes: Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)] = Field(
        default=5, description="How long a machine must stay healthy then, before its batch counts as upgraded."
    )
    canary_pause_minutes: Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)] = Field(
        default=10, description="The pause after the canaries, before the other machines begin."
    )
    max_batch_percent: Percent = Field(default=20, description="Machines that are upgraded together, rounded down.")
    max_unhealthy_percent: Percent = Field(
        default=20, description="Machines that may be unhealthy before the first batch, and before each."
    )
    max_unhealthy_upgraded_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        default=20, description="Upgraded machines that may be unhealthy after a batch."
    )
    pause_minutes: Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)] = Field(
        default=0, description="The pause between batches."
    )
    cross_zone: bool = Field(default=False, description="Whether a batch may have machines of several locations.")
    canary_locations: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default=[], max_length=100, description="Locations whose machines are first."
    )
    keep_disk_days: Annotated[float, Field(gt=0, le=365, allow_inf_nan=False)] = Field(
        default=7, description="Days for which the disk before is kept after a success."
    )

    @model_validator(mode="after")
    def _check_limits(self) -> "GroupForm":
        if self.max_unhealthy_percent < self.max_batch_percent:
            raise build_validation_error(
                "max_unhealthy_percent is smaller than max_batch_percent: a batch that fails would be too much",
                "Raise max_unhealthy_percent, or lower max_batch_percent.",
            )
        return self


class ImageFileForm(FormModel):
    """The file images.yaml."""

    images: list[ImageForm] = Field(min_length=1, max_length=200, description="What images there are.")
    groups: list[GroupForm] = Field(default=[], max_length=500, description="Which machines get them.")


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """A group of the file.

    Attributes:
        component: what all rules of components take it for.
    """

    component: Component
    scope: str
    is_automatic: bool

    @property
    def name(self) -> str:
        """Its name in the file."""
        return self.component.name.removeprefix(IMAGE_PREFIX)


@dataclass(frozen=True, slots=True)
class ImageGroups:
    """The groups of a file.

    Attributes:
        path: the file; None: there is none.
        unsigned: names of images with a list that nobody's signature is asked of.
    """

    groups: tuple[ImageGroup, ...] = ()
    path: Path | None = None
    unsigned: tuple[str, ...] = ()

    @property
    def catalogue(self) -> Catalogue:
        """The groups as components."""
        return Catalogue(tuple(group.component for group in self.groups), self.path)


def load_image_groups(inventory: Path | None = None) -> ImageGroups:
    """Load the groups of this controller; without a file, none.

    Raises:
        InvalidImages: the file can't be read or has problems. The error has each with its place and its hint.
        InventoryError: see NamedFile.find.
    """
    path = IMAGES_FILE.find(inventory)
    if path is None:
        return ImageGroups()
    problems = ProblemCollector()
    try:
        read = read_form(path, problems)
        groups = _read_groups(*read, path, problems) if read is not None else ()
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidImages(error.problems) from error
    images = read[0].images if read is not None else []
    unsigned = tuple(image.name for image in images if image.index is not None and image.index.keyring is None)
    return ImageGroups(groups, path, unsigned)


def read_form(path: Path, problems: ProblemCollector) -> tuple[ImageFileForm, LocatedData] | None:
    """Read a file of images without its lists, user data and scripts; None: there are problems."""
    text = read_text_file(path, problems)
    located = parse_yaml(path, text, problems) if text is not None else None
    if located is None:
        if not problems:
            problems.add(SourceLocation(path), "this file is empty", "Begin it with `images:`, or remove it.")
        return None
    form = validate_mapping(ImageFileForm, located, problems, "`images:`")
    return (form, located) if form is not None and not problems else None


def _read_groups(
    form: ImageFileForm, located: LocatedData, path: Path, problems: ProblemCollector
) -> tuple[ImageGroup, ...]:
    images: dict[str, tuple[ComponentVersion, ...]] = {}
    for image, entry in zip(form.images, iterate_entries(located, "images", problems), strict=True):
        if image.name in images:
            problems.add(entry.locate(("name",)), f"the image {image.name!r} is here a second time", "Rename it.")
        images[image.name] = _build_versions(image, entry, path, problems)
    groups: dict[str, ImageGroup] = {}
    for group, entry in zip(form.groups, iterate_entries(located, "groups", problems), strict=True):
        if group.name in groups:
            problems.add(entry.locate(("name",)), f"the group {group.name!r} is here a second time", "Rename it.")
        for key, message, hint in _find_group_faults(group, images):
            problems.add(entry.locate((key,)), message, hint)
        if not problems:
            groups[group.name] = _build_group(group, images[group.image], entry, path, problems)
    return tuple(groups.values())


def _find_group_faults(group: GroupForm, images: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if group.image not in images:
        hint = f"{did_you_mean(group.image, images)}Name an image of this file."
        yield "image", f"there is no image {group.image!r} here", hint
    try:
        Scope.parse(group.scope)
    except InventoryError as error:
        yield "scope", error.message, error.hint


def _build_versions(
    image: ImageForm, entry: LocatedData, path: Path, problems: ProblemCollector
) -> tuple[ComponentVersion, ...]:
    versions = [
        ComponentVersion(
            version.version,
            digest=(version.digest or "").lower(),
            reference=version.reference,
            withdrawn=version.withdrawn or "",
        )
        for version in image.versions
    ]
    listed = {rank_version(version.version) for version in versions}
    if len(listed) != len(versions):
        problems.add(entry.locate(("versions",)), f"{image.name} has a version a second time", "Remove one of them.")
    if image.index is not None:
        indexed = _read_index(image.index, entry, path, problems)
        # the file has the last word
        versions += [version for version in indexed if rank_version(version.version) not in listed]
    if not versions:
        has_url = image.index is not None and image.index.url
        hint = f"`fleetpatch images fetch {image.name}`" if has_url else "Give `versions`, or a fitting `index`."
        problems.add(entry.locate(("name",)), f"the image {image.name} has no version", hint)
    return tuple(sorted(versions, key=lambda version: rank_version(version.version)))  # type: ignore[arg-type,return-value]  # all have one


def _read_index(
    index: IndexForm, entry: LocatedData, path: Path, problems: ProblemCollector
) -> Iterator[ComponentVersion]:
    if index.url and not (path.absolute().parent / index.file).exists():
        return  # nothing was fetched yet
    place = entry.locate(("index",))
    names = [index.file, *([name for name in (index.keyring, index.signature) if name] if not index.url else [])]
    contents = {name: _read_own_file(name, path, place, problems, _MAX_INDEX_BYTES) for name in names}
    if (content := contents[index.file]) is not None and None not in contents.values():
        keys, signature = contents.get(index.keyring or ""), contents.get(index.signature or "")
        yield from read_list(index, index.file, content, signature, keys, lambda *fault: problems.add(place, *fault))


def read_list(
    index: IndexForm,
    list_name: str,
    content: bytes,
    signature: bytes | None,
    keys: bytes | None,
    tell: Callable[[str, str], None],
    above: str = "",
) -> Iterator[ComponentVersion]:
    """Yield the versions of a list, whose signature is checked unless ``keys`` is None.

    ``tell`` gets the message and the hint of each fault. ``above`` is put before the names of files.
    """
    try:
        text = read_signed_text(content, signature, keys) if keys is not None else content
        digests = read_checksums(text.decode(), list_name.rpartition("/")[2])
    except (UntrustedList, ValueError) as error:
        hint = error.hint if isinstance(error, UntrustedList) else "Correct the line, or take the list anew."
        tell(f"{list_name}: {error}", hint)
        return
    known: set[VersionRank] = set()
    for listed, digest in digests.items():
        name = f"{above}{listed}"
        if (match := re.fullmatch(index.pattern, name)) is None:
            continue
        rank = rank_version(match[1] or "")
        if fault := _explain_index_fault(name, rank, known):
            tell(f"{name!r} {fault}", "Correct `pattern`, or the list.")
        elif rank is not None:
            known.add(rank)
            yield ComponentVersion(match[1], digest=digest, reference=f"{index.folder.rstrip('/')}/{name}")


def _explain_index_fault(file_name: str, rank: VersionRank | None, known: Collection[VersionRank]) -> str:
    """Return why a file of an index can't be a version, or ""."""
    if file_name.startswith("/") or ".." in file_name.split("/"):
        return "is not in `folder`"
    if rank is None:
        return "has no version that can be compared"
    return "has a version that is there already" if rank in known else ""


def _read_own_file(
    name: str, path: Path, place: SourceLocation, problems: ProblemCollector, limit: int = _MAX_FILE_BYTES
) -> bytes | None:
    """Return a file beside images.yaml, which only those can have written who are trusted; None: it has a problem."""
    own = ProblemCollector()
    content = read_binary_file(path.absolute().parent / name, own, must_be_regular=True)
    try:
        own.raise_if_any()
    except InvalidInventory as error:
        for problem in error.problems:
            problems.add(place, problem.message.replace("this file", name, 1), problem.hint)
    if content is not None and len(content) > limit:
        problems.add(place, f"{name} has more than {limit} bytes", "Make it smaller.")
        return None
    return content


def _build_group(
    form: GroupForm,
    versions: tuple[ComponentVersion, ...],
    entry: LocatedData,
    path: Path,
    problems: ProblemCollector,
) -> ImageGroup:
    def read(name: str, key: str) -> str:
        try:
            return (_read_own_file(name, path, entry.locate((key,)), problems) or b"").decode("utf-8-sig")
        except UnicodeDecodeError:
            problems.add(entry.locate((key,)), f"{name} is no UTF-8 text", "Save it as UTF-8.")
            return ""

    model = ImageModel(
        image=form.image,
        user_data=_read_user_data(form, read(form.user_data, "user_data"), entry, problems) if form.user_data else "",
        scripts=tuple(
            ImageScript(Path(name).name, read(name, "scripts"), form.script_minutes * 60) for name in form.scripts
        ),
        keeps_host_keys=form.identity.host_keys,
        keeps_machine_id=form.identity.machine_id,
        keeps_network=form.identity.network,
        rolls_back=not form.disable_automatic_rollback,
        keep_days=form.keep_disk_days,
        pause_minutes=form.pause_minutes,
        crosses_zones=form.cross_zone,
    )
    component = Component(
        name=f"{IMAGE_PREFIX}{form.name}",
        kind="image",
        family=OsFamily.LINUX,
        versions=versions,
        health=tuple(Check(**check.model_dump()) for check in form.health),
        health_seconds=form.health_minutes * 60,
        soak_seconds=form.soak_minutes * 60,
        canary_pause_seconds=form.canary_pause_minutes * 60,
        canary_locations=tuple(form.canary_locations),
        limits=RolloutLimits(form.max_batch_percent, form.max_unhealthy_percent, form.max_unhealthy_upgraded_percent),
        image=model,
    )
    return ImageGroup(component, form.scope, form.automatic)


def _read_user_data(form: GroupForm, text: str, entry: LocatedData, problems: ProblemCollector) -> str:
    """Return a cloud-config as a JSON object, to which keys can be added."""
    place = entry.locate(("user_data",))
    try:
        config = yaml.safe_load(text) if text.startswith("#cloud-config") else None
        cloud_config = json.dumps(config)
    except (yaml.YAMLError, TypeError, ValueError):
        config, cloud_config = None, ""
    if not isinstance(config, dict):
        problems.add(place, f"{form.user_data} is no cloud-config", "Begin it with #cloud-config and write a mapping.")
        return ""
    own = [key for key in OWN_KEYS if key in config] if form.identity.host_keys else []
    if own:
        hint = "Leave it out, or say `identity: {host_keys: false}`."
        problems.add(place, f"{form.user_data} sets {', '.join(own)}, which the old disk has", hint)
    return cloud_config
