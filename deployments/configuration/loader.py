"""Finds and loads configurations, and reports all their problems at once."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ValidationError

from deployments.configuration.file_format import AutomaticForm, ConfigurationForm, FileForm
from deployments.configuration.model import AutomaticConfiguration, Configuration, Configurations
from deployments.configuration.prefect_names import build_stage_slug
from flows.freezes.freeze_files import build_freezes, deduplicate_freezes
from flows.freezes.time_values import MACHINE_ZONE
from flows.policy.fleet_freezes import DEFAULT_FILE_NAMES, list_configuration_files
from flows.policy.policy_file import CONFIGURATIONS_VARIABLE, POLICY_FILE_NAME, find_policy_beside, read_policy_file
from flows.request.automatic_request import AutomaticRequest
from flows.request.request_parts import MAX_REFERENCE_LENGTH, FreezeRequest, NotifyRequest
from inventory.data_class import dataclass
from inventory.errors import InvalidFiles, InvalidInventory, InventoryError
from inventory.files.located_yaml import iterate_entries, parse_yaml
from inventory.files.paths import expand_home, find_named_or_default_path
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_text_file
from inventory.schema.validation import describe_unknown_key, validate_mapping
from inventory.scope import Scope
from tasks.domain.errors import RequestError


def resolve_paths(
    form: BaseModel, keys: Sequence[str], located: LocatedData, problems: ProblemCollector
) -> dict[str, Path]:
    """Return the absolute paths of those keys that are given. A relative path starts in the folder of the file."""
    base = located.locate().file.parent.absolute()
    paths: dict[str, Path] = {}
    for key in keys:
        given_path: Path | None = getattr(form, key)
        if given_path is None:
            continue
        try:
            paths[key] = Path(os.path.normpath(base / expand_home(given_path)))
        except InventoryError as error:
            problems.add(located.locate((key,)), error.message, error.hint)
    return paths


def resolve_notifications(
    notifications: Sequence[NotifyRequest], located: LocatedData, problems: ProblemCollector
) -> list[NotifyRequest]:
    """Return notifications with absolute paths. A run starts in its own folder, so a relative path would fail."""
    base = located.locate().file.parent.absolute()
    resolved: list[NotifyRequest] = []
    for number, notification in enumerate(notifications):
        kind, _, target = notification.to.partition(":")
        if kind != "file" or target.startswith(("/", "~")):
            resolved.append(notification)
            continue
        absolute_target = f"file:{os.path.normpath(base / target)}"
        if len(absolute_target) > MAX_REFERENCE_LENGTH:
            message = f"from the folder of this file on, the path has more than {MAX_REFERENCE_LENGTH} characters"
            problems.add(located.locate(("notify", number, "to")), message, "Move the file to a shorter path.")
        resolved.append(notification.model_copy(update={"to": absolute_target}))
    return resolved


def load_automatic_configuration(
    located: LocatedData, today: date, problems: ProblemCollector
) -> AutomaticConfiguration | None:
    """Return what the key `automatic` of a file says."""
    form = validate_mapping(AutomaticForm, located, problems, "`scope:`, `off_peak:`")
    freezes = build_freezes(located, today, problems)
    if form is None:
        return None
    values = {name: getattr(form, name) for name in AutomaticRequest.model_fields if name in form.model_fields_set}
    values |= resolve_paths(form, ("inventory", "feeds"), located, problems)
    values |= {"notify": resolve_notifications(form.notify, located, problems), "freezes": list(freezes)}
    return AutomaticConfiguration(AutomaticRequest(**values), located.locate())


def select_automatic_configuration(
    found: Sequence[AutomaticConfiguration | None], freezes: Sequence[FreezeRequest], problems: ProblemCollector
) -> AutomaticConfiguration | None:
    """Return the one that counts, with the freezes of all files. A second one is a problem."""
    drafts = [draft for draft in found if draft is not None]
    for draft in drafts[1:]:
        first_location = drafts[0].source_location
        problems.add(
            draft.source_location,
            f"`automatic` is here a second time, first in {first_location.short}",
            "Only one policy can decide for the managed machines: remove one of the two.",
        )
    if not drafts:
        return None
    first = drafts[0]
    every = list(deduplicate_freezes((*first.request.freezes, *freezes)))
    return replace(first, request=first.request.model_copy(update={"freezes": every}))


_FILE_KEYS = frozenset(FileForm.model_fields)


class InvalidConfigurations(InvalidFiles):
    """All problems of configurations."""

    subject = "configurations"


class NoConfigurations(InventoryError):
    """Nobody has named configurations, and there are none in any default place."""


def find_configurations(explicit: Path | None = None) -> Path:
    """Return the file or folder of the configurations.

    Returns:
        The first of: ``explicit``, $FLEETPATCH_CONFIGURATIONS, ./configurations/, ./configurations.yaml, and the same
        two in the user's configuration folder.

    Raises:
        InventoryError: the named path does not exist.
        NoConfigurations: no path is named, and there are no configurations in any place.
    """
    return find_named_or_default_path(
        explicit,
        CONFIGURATIONS_VARIABLE,
        DEFAULT_FILE_NAMES,
        what="file or folder",
        explicit_origin="named on the command line",
        remedy="name the configurations",
        build_missing_error=lambda folders: NoConfigurations(
            f"there are no configurations: no {' or '.join(DEFAULT_FILE_NAMES)} in {' or '.join(map(str, folders))}",
            hint=f"Write one there, name it, or set {CONFIGURATIONS_VARIABLE}.",
        ),
    )


def load_configurations(path: Path, today: date) -> Configurations:
    """Load configurations, in the order of the file names.

    Args:
        path: a file, or a folder of files (.yaml, .yml, .json); subfolders are not read.
        today: events of iCalendar files are expanded from the start of this year.

    Raises:
        InvalidConfigurations: there are problems. The error has each problem with its place and its hint.
    """
    problems = ProblemCollector()
    try:
        path = expand_home(path)
        file_contents = [_load_file(file, today, problems) for file in list_configuration_files(path, problems)]
        policy = find_policy_beside(path)
        if os.path.lexists(policy):
            policy_problems = ProblemCollector()
            read_policy_file(policy, today, policy_problems)
            problems.extend(policy_problems)
        common_freezes = [freeze for part in file_contents for freeze in part.freezes]
        configurations = [
            replace(configuration, freezes=deduplicate_freezes((*configuration.freezes, *common_freezes)))
            for part in file_contents
            for configuration in part.configurations
        ]
        _check_names(configurations, problems)
        for configuration in configurations:
            _check_request(configuration, problems)
        automatic = select_automatic_configuration([part.automatic for part in file_contents], common_freezes, problems)
        if not configurations and automatic is None and not common_freezes and not problems:
            problems.add(SourceLocation(path), "there is no configuration here", "Begin one with `name:`.")
        problems.raise_if_any()
    except InvalidInventory as error:
        files = list(dict.fromkeys(problem.file for problem in error.problems))
        raise InvalidConfigurations(
            sorted(error.problems, key=lambda problem: (files.index(problem.file), problem.line or 0))
        ) from error
    return Configurations(tuple(configurations), path, automatic, deduplicate_freezes(common_freezes))


@dataclass(frozen=True, slots=True)
class _FileContent:
    """The content of one file."""

    configurations: Sequence[Configuration] = ()
    freezes: Sequence[FreezeRequest] = ()
    automatic: AutomaticConfiguration | None = None


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
    if isinstance(data, dict) and "policy" in data:
        hint = f"Write it into {POLICY_FILE_NAME} in this folder: only there it is read."
        problems.add(located.locate(("policy",)), "the policy stands in another file", hint)
        return _FileContent()
    if isinstance(data, dict) and (_has_file_key(data) or ("freezes" in data and "name" not in data)):
        for key in data.keys() - _FILE_KEYS:
            problems.add(located.locate((key,)), *describe_unknown_key(key, sorted(_FILE_KEYS)))
        entries = [
            _build_configuration(entry, today, problems)
            for entry in iterate_entries(located, "configurations", problems)
        ]
        freezes = build_freezes(located, today, problems)
        automatic = (
            load_automatic_configuration(located.get_child("automatic"), today, problems)
            if "automatic" in data
            else None
        )
        return _FileContent([configuration for configuration in entries if configuration], freezes, automatic)
    return _FileContent(
        [configuration for configuration in [_build_configuration(located, today, problems)] if configuration]
    )


def _has_file_key(data: dict[str, object]) -> bool:
    """Return whether a file has a key beside those of a configuration, with a typing error or not."""
    if {"configurations", "automatic"} & data.keys():
        return True
    return "name" not in data and any(did_you_mean(key, ("configurations", "automatic")) for key in data)


def _build_configuration(located: LocatedData, today: date, problems: ProblemCollector) -> Configuration | None:
    form = validate_mapping(ConfigurationForm, located, problems, "`name:`, `window:`")
    freezes = build_freezes(located, today, problems)
    if form is None:
        return None
    paths = resolve_paths(form, ("inventory", "report_directory"), located, problems)
    return Configuration(
        form.model_copy(update={**paths, "notify": resolve_notifications(form.notify, located, problems)}),
        located.locate(("name",)),
        freezes,
    )


def _check_names(configurations: Sequence[Configuration], problems: ProblemCollector) -> None:
    first: dict[str, Configuration] = {}
    for configuration in configurations:
        if (twin := first.setdefault(configuration.name, configuration)) is not configuration:
            message = (
                f"the configuration {configuration.name!r} is here a second time, first in {twin.source_location.short}"
            )
            problems.add(configuration.source_location, message, "Rename or remove one of the two.")
    staging = [configuration.name for configuration in configurations if configuration.stage_ahead_minutes is not None]
    for configuration in configurations:
        owner = next((name for name in staging if build_stage_slug(name) == configuration.name), None)
        if owner is not None:
            message = f"{configuration.name!r} is the name of the downloads of {owner!r} in Prefect (`stage_ahead`)"
            problems.add(configuration.source_location, message, "Choose another name for one of the two.")


def _check_request(configuration: Configuration, problems: ProblemCollector) -> None:
    """Build the request and the schedules of a configuration once, to find errors now and not in the window."""
    zone = "UTC" if configuration.zone == MACHINE_ZONE else configuration.zone
    source_location = replace(
        configuration.source_location, key=configuration.source_location.key.removesuffix("name") + "window"
    )
    try:
        configuration.build_schedule(zone)
    except RequestError as error:
        problems.add(source_location, error.message, error.hint)
    try:
        Scope.parse(configuration.build_request(zone).scope)
    except InventoryError as error:
        problems.add(configuration.source_location, error.message, error.hint)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = ".".join(str(step) for step in detail["loc"])
            problems.add(configuration.source_location, f"{key}: {detail['msg']}", "Make it smaller.")
