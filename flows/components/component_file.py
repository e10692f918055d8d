"""The format of components.yaml, which says what components there are, and where the file is found."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from flows.request.base import FormModel
from inventory.addresses import parse_tcp_target
from inventory.data_class import dataclass
from inventory.errors import InvalidFiles, InvalidInventory
from inventory.files.located_yaml import iterate_entries, parse_yaml
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_text_file
from inventory.machine import Check, CheckKind, FailedCheckEffect, OsFamily
from inventory.named_files import COMPONENTS_FILE
from inventory.schema.entries import CheckList
from inventory.schema.validation import validate_mapping
from inventory.schema.value_types import build_validation_error, validate_url
from tasks.domain.components import Component, ComponentVersion
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.rules.components.order import find_circle, order_components
from tasks.rules.components.versions import rank_version

_SECRET_PATTERN: Final = re.compile(r"PASSW|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY")
_KINDS_WITH_SETTINGS: Final = frozenset({ComponentKind.FILE, ComponentKind.MSI})
_KINDS_WITH_REFERENCE: Final = frozenset({ComponentKind.SNAP, ComponentKind.FLATPAK})

ComponentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_:/ ()-]{0,199}$")]
Command = Annotated[str, StringConstraints(min_length=1, max_length=16_000, pattern=r"^[^\x00]*$")]


class InvalidComponents(InvalidFiles):
    """All problems of a file of components. No component is upgraded until they are corrected."""

    subject = "components"


def _validate_version(text: str) -> str:
    if rank_version(text) is None:
        raise build_validation_error(
            f"{text[:80]!r} is no version that can be compared", 'Write it as the machine reports it, such as "1.8.2".'
        )
    return text


def _validate_setting_name(text: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", text):
        raise build_validation_error(
            f"{text[:80]!r} is no name of a setting", "Use capital letters, digits and '_', such as LISTEN_ADDRESS."
        )
    if _SECRET_PATTERN.search(text):
        raise build_validation_error(
            f"the setting {text!r} looks like a secret",
            "A secret never stands here: let the component read it from a file on the machine.",
        )
    return text


def _validate_pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise build_validation_error(f"this is no regular expression: {error}", "Correct `pattern`.") from None
    if groups != 1:
        raise build_validation_error(
            f"this expression has {groups} groups", "Give it one group, which finds the version: 'version ([0-9.]+)'."
        )
    return text


VersionText = Annotated[str, AfterValidator(_validate_version)]


class VersionForm(FormModel):
    """One version, and where it comes from."""

    version: VersionText = Field(description="As the machine reports it.")
    url: Annotated[str, StringConstraints(max_length=2000), AfterValidator(validate_url)] | None = Field(
        default=None, description="Where the machine downloads its file."
    )
    file: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = Field(
        default=None, description="Its file on the controller, relative to this file. The controller sends it."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")] | None = Field(
        default=None, description="The digest of the file."
    )
    reference: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = Field(
        default=None, description="A snap's revision, or a flatpak's commit."
    )
    withdrawn: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="Why nobody gets this version any more."
    )


class VersionQuestionForm(FormModel):
    """How the installed version is asked."""

    command: Command = Field(description="Prints the version. It fails, or prints nothing, where nothing is installed.")
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_validate_pattern)] = Field(
        default=r"([0-9][0-9A-Za-z.+~:_-]*)", description="Finds the version in what the command prints."
    )


def _validate_health(checks: list[Any]) -> list[Any]:
    for check in checks:
        if check.level is FailedCheckEffect.WARN:
            raise build_validation_error(f"{check.name!r} can't make a machine unhealthy", "Leave out `level: warn`.")
        if check.kind is CheckKind.HTTP or (check.kind is CheckKind.TCP and parse_tcp_target(check.target)[0]):
            raise build_validation_error(
                f"{check.name!r} asks one host, whatever machine is upgraded",
                "Give the port alone (`kind: tcp`), or ask on the machine with `kind: command`.",
            )
    return checks


HealthChecks = Annotated[CheckList, Field(max_length=50), AfterValidator(_validate_health)]


class ComponentForm(FormModel):
    """One component."""

    name: ComponentName = Field(description="Its name, unique in the file.")
    kind: ComponentKind = Field(description="How it is asked for its version, and installed.")
    system: OsFamily | None = Field(default=None, description="linux or windows; only `kind: file` needs it.")
    package: PackageName | None = Field(
        default=None, description="Its name in the package manager; of an MSI, the display name. Default: `name`."
    )
    version: VersionQuestionForm | None = Field(default=None, description="How the installed version is asked.")
    install: Command | None = Field(default=None, description="Installs the file $FLEETPATCH_FILE (`kind: file`).")
    roll_back: Command | None = Field(
        default=None, description="Puts the version before back. Default: the installation of that version."
    )
    health: HealthChecks = Field(default=[], description="Its own checks beside the probes of the machine.")
    health_minutes: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = Field(
        default=5, description="How long they may take to be good after an upgrade."
    )
    soak_minutes: Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)] = Field(
        default=5, description="How long a machine must stay healthy then, before its batch counts as upgraded."
    )
    canary_pause_minutes: Annotated[float, Field(ge=0, le=24 * 60, allow_inf_nan=False)] = Field(
        default=10, description="The pause after the canaries, before the other machines begin."
    )
    settings: dict[Annotated[str, AfterValidator(_validate_setting_name)], Annotated[str, Field(max_length=4000)]] = (
        Field(default={}, max_length=100, description="Variables of its commands, or properties of its MSI.")
    )
    after: list[ComponentName] = Field(default=[], max_length=50, description="Components that are upgraded before it.")
    versions: list[VersionForm] = Field(min_length=1, max_length=200, description="Its versions.")

    @model_validator(mode="after")
    def _check_kind(self) -> "ComponentForm":
        kind = self.kind
        faults = {
            "`kind: file` needs `system: linux` or `system: windows`": kind is ComponentKind.FILE
            and self.system is None,
            f"`kind: {kind}` is of {kind.family}": self.system is not None and kind.family not in (None, self.system),
            "`kind: file` needs `version` and `install`": kind is ComponentKind.FILE
            and (self.version is None or self.install is None),
            f"`kind: {kind}` installs by itself: `install` is for `kind: file`": kind is not ComponentKind.FILE
            and self.install is not None,
            f"`kind: {kind}` takes no settings": bool(self.settings) and kind not in _KINDS_WITH_SETTINGS,
        }
        for fault, is_there in faults.items():
            if is_there:
                raise build_validation_error(fault, "Correct this component, or its `kind`.")
        return self


class ComponentFileForm(FormModel):
    """The file components.yaml."""

    components: list[ComponentForm] = Field(min_length=1, max_length=500, description="What components there are.")
    canary_locations: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default=[], max_length=100, description="Locations whose machines get each version first."
    )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The components of a file, each after those that it names.

    Attributes:
        path: the file; None: there is none.
    """

    components: tuple[Component, ...] = ()
    path: Path | None = None

    def find(self, name: str) -> Component | None:
        """Return the component of a name, or None."""
        return next((component for component in self.components if component.name == name), None)


def load_catalogue(inventory: Path | None = None) -> Catalogue:
    """Load the components of this controller; without a file, none.

    Raises:
        InvalidComponents: the file can't be read or has problems.
        InventoryError: see NamedFile.find.
    """
    path = COMPONENTS_FILE.find(inventory)
    return Catalogue() if path is None else load_component_file(path)


def load_component_file(path: Path) -> Catalogue:
    """Load one file.

    Raises:
        InvalidComponents: it can't be read or has problems. The error has each problem with its place and its hint.
    """
    problems = ProblemCollector()
    try:
        components = _read_components(path, problems)
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidComponents(error.problems) from error
    return Catalogue(order_components(components), path)


def _read_components(path: Path, problems: ProblemCollector) -> tuple[Component, ...]:
    text = read_text_file(path, problems)
    located = parse_yaml(path, text, problems) if text is not None else None
    if located is None:
        if not problems:
            problems.add(SourceLocation(path), "this file is empty", "Begin it with `components:`, or remove it.")
        return ()
    form = validate_mapping(ComponentFileForm, located, problems, "`components:`")
    if form is None or problems:
        return ()
    entries = tuple(iterate_entries(located, "components", problems))
    canaries = tuple(form.canary_locations)
    components = tuple(
        _build_component(component_form, entry, canaries, path, problems)
        for component_form, entry in zip(form.components, entries, strict=True)
    )
    _check_names_and_order(components, entries, problems)
    return components


def _build_component(
    form: ComponentForm, located: LocatedData, canaries: tuple[str, ...], path: Path, problems: ProblemCollector
) -> Component:
    for number, version in enumerate(form.versions):
        place = ("versions", number)
        if fault := _find_source_fault(form.kind, version):
            problems.add(located.locate(place), *fault)
        earlier = form.versions[:number]
        same = next((one for one in earlier if rank_version(one.version) == rank_version(version.version)), None)
        if same is not None:
            message = f"{form.name} has the version {version.version} a second time: {same.version} is the same"
            problems.add(located.locate((*place, "version")), message, "Remove one of them.")
    family = form.kind.family or form.system
    assert family is not None  # noqa: S101 - for the type checker: the form has refused it otherwise
    question = form.version
    versions = [_build_version(version, path) for version in form.versions]
    return Component(
        name=form.name,
        kind=form.kind,
        family=family,
        versions=tuple(sorted(versions, key=_rank_for_sorting)),
        package=form.package or "",
        version_command=question.command if question is not None else "",
        version_pattern=question.pattern if question is not None else "",
        install=form.install or "",
        roll_back=form.roll_back or "",
        health=tuple(Check(**check.model_dump()) for check in form.health),
        health_seconds=form.health_minutes * 60,
        soak_seconds=form.soak_minutes * 60,
        canary_pause_seconds=form.canary_pause_minutes * 60,
        settings=form.settings,
        after=tuple(form.after),
        canary_locations=canaries,
    )


def _rank_for_sorting(version: ComponentVersion) -> Any:  # noqa: ANN401 - the form has refused what has no rank
    return rank_version(version.version)


def _build_version(form: VersionForm, path: Path) -> ComponentVersion:
    return ComponentVersion(
        version=form.version,
        url=form.url or "",
        file=str(path.absolute().parent / form.file) if form.file else "",
        digest=f"sha256:{form.sha256.lower()}" if form.sha256 else "",
        reference=form.reference or "",
        withdrawn=form.withdrawn or "",
    )


def _find_source_fault(kind: ComponentKind, version: VersionForm) -> tuple[str, str] | None:
    """Return message and remedy for a version whose source does not fit to the kind of its component."""
    sources = [key for key in ("url", "file") if getattr(version, key) is not None]
    name = f"version {version.version}"
    if kind.has_file and len(sources) != 1:
        return f"{name} comes from {len(sources)} places", "Give `url` or `file`."
    if kind.has_file and version.sha256 is None:
        return f"{name} has no digest", "Give `sha256`: what `sha256sum FILE` prints."
    if not kind.has_file and (sources or version.sha256 is not None):
        return f"{name}: `kind: {kind}` gets it from its own source", "Leave out `url`, `file` and `sha256`."
    if version.reference is not None and kind not in _KINDS_WITH_REFERENCE:
        return f"{name}: `reference` is for snap and flatpak", "Leave out `reference`."
    if kind in _KINDS_WITH_REFERENCE and version.reference is None:
        what = "the revision (`snap info NAME`)" if kind is ComponentKind.SNAP else "the commit (`flatpak info`)"
        return f"{name} has no reference", f"Give `reference`: {what}. Without it no version can be put back."
    return None


def _check_names_and_order(
    components: Sequence[Component], entries: Sequence[LocatedData], problems: ProblemCollector
) -> None:
    after: Mapping[str, Sequence[str]] = {component.name: component.after for component in components}
    seen: set[str] = set()
    for component, entry in zip(components, entries, strict=True):
        # a machine has one folder for each, and Windows does not tell capital letters apart
        if component.name.lower() in seen:
            problems.add(
                entry.locate(("name",)),
                f"the component {component.name!r} is here a second time",
                "Rename one of them; capital letters make no difference.",
            )
        seen.add(component.name.lower())
        for message, remedy in _find_order_faults(component, after):
            problems.add(entry.locate(("after",)), message, remedy)
    if not problems and (circle := find_circle(after)):
        first = next(
            entry for component, entry in zip(components, entries, strict=True) if component.name in circle.names
        )
        problems.add(
            first.locate(("after",)), f"components wait for each other: {circle}", "Remove one `after` of the circle."
        )


def _find_order_faults(component: Component, known: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name in component.after:
        if name not in known:
            hint = f"{did_you_mean(name, known)}Name a component of this file, or remove it."
            yield f"{component.name} comes after {name!r}, which is not here", hint
