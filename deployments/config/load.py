"""The way in: find configurations, read them, and say everything that is wrong with them at once."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import platformdirs
from pydantic import ValidationError

from deployments.config.configuration import Configuration, Configurations
from deployments.config.errors import InvalidConfigurations
from deployments.config.faults import check
from deployments.config.form import ConfigurationForm, FileForm, FreezeForm
from deployments.config.freezing import distinct, freezes_of
from deployments.config.names import taken_by
from deployments.config.zones import MACHINE
from flows.policy_forms import LONGEST_REFERENCE, FreezeRequest, NotifyRequest
from inventory.checking import unknown_key
from inventory.errors import InvalidInventory, InventoryError
from inventory.places import Located, Problems, own_folder, read_text, with_home
from inventory.places import Place as Spot
from inventory.scope import Scope
from inventory.yaml_tree import parse_yaml
from tasks.errors import RequestError

ENVIRONMENT_VARIABLE = "FLEETPATCH_CONFIGURATIONS"
DEFAULT_NAMES = ("configurations", "configurations.yaml")
_YAML = frozenset({".yaml", ".yml", ".json"})
_MANY = frozenset(FileForm.model_fields)


def find_configurations(explicit: Path | None = None) -> Path:
    """Return the file or folder to use.

    Args:
        explicit: what the person named; wins when given.

    Returns:
        The first of: ``explicit``, $FLEETPATCH_CONFIGURATIONS, ./configurations/, ./configurations.yaml, and the same
        two in the user's configuration.

    Raises:
        InventoryError: what was named does not exist, or there is nothing anywhere.
    """
    if explicit is not None:
        return _existing(explicit, "named on the command line")
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _existing(Path(named), f"named by {ENVIRONMENT_VARIABLE}")
    folders = [Path.cwd()]
    with suppress(InventoryError):  # who has no home has one place less
        folders.append(own_folder(platformdirs.user_config_path, InventoryError, "name the configurations"))
    for place in (folder / name for folder in folders for name in DEFAULT_NAMES):
        if place.exists():
            return place
    raise InventoryError(
        f"there are no configurations: no {' or '.join(DEFAULT_NAMES)} in {' or '.join(map(str, folders))}",
        hint=f"Write one there, name it, or set {ENVIRONMENT_VARIABLE}.",
    )


def load_configurations(path: Path, today: date) -> Configurations:
    """Read configurations.

    Args:
        path: a file, or a folder of files (.yaml, .yml, .json); its subfolders are not read.
        today: events of iCalendar files are spelt out from this year on.

    Returns:
        All of them, in the order of the files' names.

    Raises:
        InvalidConfigurations: with every fault, its place and its remedy.
    """
    problems = Problems()
    try:
        path = with_home(path)
        parts = [_read(file, today, problems) for file in _files(path, problems)]
        common = [freeze for part in parts for freeze in part.freezes]
        found = [_whole(one, common) for part in parts for one in part.configurations]
        _check_names(found, problems)
        for one in found:
            _check_request(one, problems)
        if not found and not problems:
            problems.add(Spot(path), "there is no configuration here", "Begin one with `name:`.")
        problems.raise_any()
    except InvalidInventory as error:
        raise InvalidConfigurations(_in_order(error.problems)) from error
    return Configurations(tuple(found), path)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one file says."""

    configurations: Sequence[Configuration] = ()
    freezes: Sequence[FreezeRequest] = ()


def _in_order(problems: Sequence[InventoryError]) -> list[InventoryError]:
    """Return faults in the order of the files and lines that they stand in."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(problems, key=lambda problem: (files.index(problem.file), problem.line or 0))


def _existing(path: Path, how: str) -> Path:
    path = with_home(path)
    if not path.exists():
        raise InventoryError(f"there is no such file or folder, {how}", file=path, hint="Correct the path.")
    return path


def _files(path: Path, problems: Problems) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    try:
        items = sorted(path.iterdir())
    except OSError as error:
        problems.add(Spot(path), f"this folder can't be read: {error.strerror}", "Make it readable.")
        return
    yield from (item for item in items if item.suffix in _YAML and not item.name.startswith("."))


def _read(path: Path, today: date, problems: Problems) -> _Part:
    text = read_text(path, problems)
    if text is None:
        return _Part()
    noted = Problems()
    located = parse_yaml(path, text, noted)
    problems.take(noted)
    if located is None:
        if not noted:
            problems.add(Spot(path), "this file is empty", "Begin a configuration with `name:`, or remove the file.")
        return _Part()
    if isinstance(located.data, dict) and not located.data.keys() & _MANY - {"freezes"} and "name" in located.data:
        return _Part([one for one in [_one(located, today, problems)] if one])
    if isinstance(located.data, dict) and located.data.keys() & _MANY:
        return _several(located, located.data, today, problems)
    return _Part([one for one in [_one(located, today, problems)] if one])


def _several(located: Located, data: dict[str, object], today: date, problems: Problems) -> _Part:
    for key in data.keys() - _MANY:
        problems.add(located.at((key,)), *unknown_key(key, sorted(_MANY)))
    entries = [_one(each, today, problems) for each in _entries(located, "configurations", problems)]
    return _Part([one for one in entries if one], _freezes(located, today, problems))


def _freezes(located: Located, today: date, problems: Problems) -> tuple[FreezeRequest, ...]:
    """Return what is under `freezes`. Each entry is looked at, so that a fault in one hides none in another."""
    forms = [(check(FreezeForm, each, problems), each) for each in _entries(located, "freezes", problems)]
    return tuple(freeze for form, each in forms if form for freeze in freezes_of(form, each, today, problems))


def _entries(located: Located, key: str, problems: Problems) -> Iterator[Located]:
    data = located.data.get(key) if isinstance(located.data, dict) else None
    if data is None:
        return
    part = located.part(key)
    if not isinstance(data, list):
        problems.add(part.at(), f"`{key}` is a list", "Write each entry after a dash: `- name: ...`.")
        return
    yield from (part.part(index) for index in range(len(data)))


def _one(located: Located, today: date, problems: Problems) -> Configuration | None:
    form = check(ConfigurationForm, located, problems)
    freezes = _freezes(located, today, problems)
    if form is None:
        return None
    return Configuration(_anchored(form, located, problems), located.at(("name",)), freezes)


def _anchored(form: ConfigurationForm, located: Located, problems: Problems) -> ConfigurationForm:
    """Return a form whose paths no longer depend on where one happens to be."""
    base = located.at().file.parent.absolute()
    paths: dict[str, object] = {}
    for key in ("inventory", "report_directory"):
        given: Path | None = getattr(form, key)
        if given is None:
            continue
        try:
            paths[key] = Path(os.path.normpath(base / with_home(given)))
        except InventoryError as error:
            problems.add(located.at((key,)), error.message, error.hint)
    paths["notify"] = [_told_by(each, number, base, located, problems) for number, each in enumerate(form.notify)]
    return form.model_copy(update=paths)


def _told_by(one: NotifyRequest, number: int, base: Path, located: Located, problems: Problems) -> NotifyRequest:
    """Return whom to tell, by a file whose path is absolute: a run starts in a folder of its own."""
    kind, _, target = one.to.partition(":")
    if kind != "file" or target.startswith(("/", "~")):
        return one
    whole = f"file:{os.path.normpath(base / target)}"
    if len(whole) > LONGEST_REFERENCE:
        message = f"from the folder of this file on, the path has more than {LONGEST_REFERENCE} characters"
        problems.add(located.at(("notify", number, "to")), message, "Move the file to a shorter path.")
    return one.model_copy(update={"to": whole})


def _whole(one: Configuration, common: Sequence[FreezeRequest]) -> Configuration:
    return replace(one, freezes=distinct(iter((*one.freezes, *common))))


def _check_names(found: Sequence[Configuration], problems: Problems) -> None:
    first: dict[str, Configuration] = {}
    for one in found:
        if (twin := first.setdefault(one.name, one)) is not one:
            spot = f"{twin.place.file.name}:{twin.place.line}" if twin.place.line else twin.place.file.name
            message = f"the configuration {one.name!r} stands here again, first in {spot}"
            problems.add(one.place, message, "Rename or remove one of the two.")
    staging = [one.name for one in found if one.stage_ahead_minutes is not None]
    for one in found:
        if (owner := taken_by(one.name, staging)) is not None:
            message = f"{one.name!r} is what the downloads of {owner!r} are called in Prefect (`stage_ahead`)"
            problems.add(one.place, message, "Choose another name for one of the two.")


def _check_request(one: Configuration, problems: Problems) -> None:
    """Make once what a run will be made of, so that nothing is left to be found at night."""
    zone = "UTC" if one.zone == MACHINE else one.zone
    place = replace(one.place, key=one.place.key.removesuffix("name") + "window")
    try:
        one.schedule(zone)
    except RequestError as error:
        problems.add(place, error.message, error.hint)
    try:
        Scope.parse(one.request(zone).scope)
    except InventoryError as error:
        problems.add(one.place, error.message, error.hint)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = ".".join(str(step) for step in detail["loc"])
            problems.add(one.place, f"{key}: {detail['msg']}", "Make it smaller.")
