"""Finds and loads configurations, and reports all their problems at once."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from deployments.configuration.file_format import ConfigurationForm, FileForm, FreezeForm
from deployments.configuration.freezes import build_freeze_requests, deduplicate_freezes
from deployments.configuration.model import Configuration, Configurations
from deployments.configuration.prefect_names import find_name_conflict
from deployments.configuration.time_zones import MACHINE_ZONE
from flows.request.policies import MAX_REFERENCE_LENGTH, FreezeRequest, NotifyRequest
from inventory.errors import InvalidFiles, InvalidInventory, InventoryError
from inventory.files.located_yaml import parse_yaml
from inventory.files.paths import expand_home, find_named_or_default_path
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
from inventory.files.text_files import read_text_file
from inventory.schema.validation import describe_unknown_key, validate_mapping
from inventory.scope import Scope
from tasks.errors import RequestError

CONFIGURATIONS_VARIABLE = "FLEETPATCH_CONFIGURATIONS"
DEFAULT_FILE_NAMES = ("configurations", "configurations.yaml")
_FILE_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_FILE_KEYS = frozenset(FileForm.model_fields)


class InvalidConfigurations(InvalidFiles):
    """All problems of configurations."""

    subject = "configurations"


def find_configurations(explicit: Path | None = None) -> Path:
    """Return the file or folder of the configurations.

    Args:
        explicit: the path from the user, or None.

    Returns:
        The first of: ``explicit``, $FLEETPATCH_CONFIGURATIONS, ./configurations/, ./configurations.yaml, and the same
        two in the user's configuration folder.

    Raises:
        InventoryError: the named path does not exist, or there are no configurations in any place.
    """
    return find_named_or_default_path(
        explicit,
        CONFIGURATIONS_VARIABLE,
        DEFAULT_FILE_NAMES,
        what="file or folder",
        explicit_origin="named on the command line",
        remedy="name the configurations",
        build_missing_error=_build_missing_error,
    )


def _build_missing_error(folders: list[Path]) -> InventoryError:
    return InventoryError(
        f"there are no configurations: no {' or '.join(DEFAULT_FILE_NAMES)} in {' or '.join(map(str, folders))}",
        hint=f"Write one there, name it, or set {CONFIGURATIONS_VARIABLE}.",
    )


def load_configurations(path: Path, today: date) -> Configurations:
    """Load configurations.

    Args:
        path: a file, or a folder of files (.yaml, .yml, .json); subfolders are not read.
        today: events of iCalendar files are expanded from the start of this year.

    Returns:
        All configurations, in the order of the file names.

    Raises:
        InvalidConfigurations: there are problems. The error has each problem with its place and its hint.
    """
    problems = ProblemCollector()
    try:
        path = expand_home(path)
        file_contents = [_load_file(file, today, problems) for file in _list_files(path, problems)]
        common_freezes = [freeze for part in file_contents for freeze in part.freezes]
        configurations = [
            replace(one, freezes=deduplicate_freezes((*one.freezes, *common_freezes)))
            for part in file_contents
            for one in part.configurations
        ]
        _check_names(configurations, problems)
        for one in configurations:
            _check_request(one, problems)
        if not configurations and not problems:
            problems.add(SourceLocation(path), "there is no configuration here", "Begin one with `name:`.")
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidConfigurations(_sort_problems(error.problems)) from error
    return Configurations(tuple(configurations), path)


@dataclass(frozen=True, slots=True)
class _FileContent:
    """The content of one file."""

    configurations: Sequence[Configuration] = ()
    freezes: Sequence[FreezeRequest] = ()


def _sort_problems(problems: Sequence[InventoryError]) -> list[InventoryError]:
    """Return the problems in the order of files and lines."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(problems, key=lambda problem: (files.index(problem.file), problem.line or 0))


def _list_files(path: Path, problems: ProblemCollector) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    try:
        items = sorted(path.iterdir())
    except OSError as error:
        problems.add(SourceLocation(path), f"this folder can't be read: {error.strerror}", "Make it readable.")
        return
    yield from (item for item in items if item.suffix in _FILE_SUFFIXES and not item.name.startswith("."))


def _load_file(path: Path, today: date, problems: ProblemCollector) -> _FileContent:
    text = read_text_file(path, problems)
    if text is None:
        return _FileContent()
    file_problems = ProblemCollector()
    located = parse_yaml(path, text, file_problems)
    problems.extend(file_problems)
    if located is None:
        if not file_problems:
            hint = "Begin a configuration with `name:`, or remove the file."
            problems.add(SourceLocation(path), "this file is empty", hint)
        return _FileContent()
    data = located.data
    if isinstance(data, dict) and ("configurations" in data or ("freezes" in data and "name" not in data)):
        return _build_file_content(located, data, today, problems)
    return _FileContent([one for one in [_build_configuration(located, today, problems)] if one])


def _build_file_content(
    located: LocatedData, data: dict[str, object], today: date, problems: ProblemCollector
) -> _FileContent:
    for key in data.keys() - _FILE_KEYS:
        problems.add(located.locate((key,)), *describe_unknown_key(key, sorted(_FILE_KEYS)))
    entries = [
        _build_configuration(each, today, problems) for each in _iterate_entries(located, "configurations", problems)
    ]
    return _FileContent([one for one in entries if one], _build_freezes(located, today, problems))


def _build_freezes(located: LocatedData, today: date, problems: ProblemCollector) -> tuple[FreezeRequest, ...]:
    """Return the freezes of the key `freezes`. It checks each entry, so that one problem hides no other."""
    return tuple(
        freeze
        for each in _iterate_entries(located, "freezes", problems)
        if (form := validate_mapping(FreezeForm, each, problems, "its keys"))
        for freeze in build_freeze_requests(form, each, today, problems)
    )


def _iterate_entries(located: LocatedData, key: str, problems: ProblemCollector) -> Iterator[LocatedData]:
    data = located.data.get(key) if isinstance(located.data, dict) else None
    if data is None:
        return
    part = located.get_child(key)
    if not isinstance(data, list):
        problems.add(part.locate(), f"`{key}` is a list", "Write each entry after a dash: `- name: ...`.")
        return
    yield from (part.get_child(index) for index in range(len(data)))


def _build_configuration(located: LocatedData, today: date, problems: ProblemCollector) -> Configuration | None:
    form = validate_mapping(ConfigurationForm, located, problems, "`name:`, `window:`")
    freezes = _build_freezes(located, today, problems)
    if form is None:
        return None
    return Configuration(_resolve_paths(form, located, problems), located.locate(("name",)), freezes)


def _resolve_paths(form: ConfigurationForm, located: LocatedData, problems: ProblemCollector) -> ConfigurationForm:
    """Return the form with absolute paths, so that the working directory does not matter."""
    base = located.locate().file.parent.absolute()
    paths: dict[str, object] = {}
    for key in ("inventory", "report_directory"):
        given: Path | None = getattr(form, key)
        if given is None:
            continue
        try:
            paths[key] = Path(os.path.normpath(base / expand_home(given)))
        except InventoryError as error:
            problems.add(located.locate((key,)), error.message, error.hint)
    paths["notify"] = [
        _resolve_notification_path(each, number, base, located, problems) for number, each in enumerate(form.notify)
    ]
    return form.model_copy(update=paths)


def _resolve_notification_path(
    notification: NotifyRequest, number: int, base: Path, located: LocatedData, problems: ProblemCollector
) -> NotifyRequest:
    """Return the notification with an absolute path. A run starts in its own folder, so a relative path would fail."""
    kind, _, target = notification.to.partition(":")
    if kind != "file" or target.startswith(("/", "~")):
        return notification
    whole = f"file:{os.path.normpath(base / target)}"
    if len(whole) > MAX_REFERENCE_LENGTH:
        message = f"from the folder of this file on, the path has more than {MAX_REFERENCE_LENGTH} characters"
        problems.add(located.locate(("notify", number, "to")), message, "Move the file to a shorter path.")
    return notification.model_copy(update={"to": whole})


def _check_names(configurations: Sequence[Configuration], problems: ProblemCollector) -> None:
    first: dict[str, Configuration] = {}
    for one in configurations:
        if (twin := first.setdefault(one.name, one)) is not one:
            spot = (
                f"{twin.source_location.file.name}:{twin.source_location.line}"
                if twin.source_location.line
                else twin.source_location.file.name
            )
            message = f"the configuration {one.name!r} is here a second time, first in {spot}"
            problems.add(one.source_location, message, "Rename or remove one of the two.")
    staging = [one.name for one in configurations if one.stage_ahead_minutes is not None]
    for one in configurations:
        if (owner := find_name_conflict(one.name, staging)) is not None:
            message = f"{one.name!r} is the name of the downloads of {owner!r} in Prefect (`stage_ahead`)"
            problems.add(one.source_location, message, "Choose another name for one of the two.")


def _check_request(configuration: Configuration, problems: ProblemCollector) -> None:
    """Build the request and the schedules of a configuration once, to find errors now and not in the window."""
    zone = "UTC" if configuration.zone == MACHINE_ZONE else configuration.zone
    place = replace(
        configuration.source_location, key=configuration.source_location.key.removesuffix("name") + "window"
    )
    try:
        configuration.build_schedule(zone)
    except RequestError as error:
        problems.add(place, error.message, error.hint)
    try:
        Scope.parse(configuration.build_request(zone).scope)
    except InventoryError as error:
        problems.add(configuration.source_location, error.message, error.hint)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = ".".join(str(step) for step in detail["loc"])
            problems.add(configuration.source_location, f"{key}: {detail['msg']}", "Make it smaller.")
