"""Prints settings and where they come from, and builds their JSON."""

from collections.abc import Mapping, Sequence
from typing import Final

from fleetpatch.cli.runtime.output import print_to_stderr, print_to_stdout, print_unwrapped
from fleetpatch.cli.runtime.row_table import Fact, build_list_json, build_list_table
from inventory.addresses import has_url_password
from inventory.data_class import dataclass
from inventory.files.settings_file import (
    ENVIRONMENT_ONLY,
    OUR_PREFIX,
    SETTINGS,
    SETTINGS_VARIABLE,
    SettingsFile,
    is_secret,
    list_default_places,
)

HIDDEN_VALUE: Final = "(hidden)"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting that is set."""

    name: str
    value: str  # safe to show
    source: str  # where it comes from, in words
    line: int | None = None  # of the file, if it comes from there


def list_shown_settings(environ: Mapping[str, str], file: SettingsFile | None) -> Sequence[ShownSetting]:
    """Return the settings that are set, also by the file: those that everybody needs, then the others by name."""
    in_file = file.settings if file is not None else {}
    set_names = [name for name in SETTINGS if environ.get(name)]
    other_names = {name for name in environ if name.startswith(OUR_PREFIX)} | set(in_file)
    names = [*set_names, *sorted(other_names - set(set_names) - {SETTINGS_VARIABLE})]
    return [_build_row(name, environ, file) for name in names if environ.get(name)]


def _build_row(name: str, environ: Mapping[str, str], file: SettingsFile | None) -> ShownSetting:
    value = environ[name]
    setting = file.settings.get(name) if file is not None else None
    is_unknown = name.startswith(OUR_PREFIX) and name not in SETTINGS and name not in ENVIRONMENT_ONLY
    source = "environment: unknown" if is_unknown else "environment"
    if setting is not None:
        is_of_file = setting.value == value
        source = f"line {setting.line}" if is_of_file else f"environment, not line {setting.line}"
        return ShownSetting(name, _hide(name, value), source, setting.line if is_of_file else None)
    return ShownSetting(name, _hide(name, value), source)


def _hide(name: str, value: str) -> str:
    """Return a value that is safe to show."""
    if not is_secret(name, value):
        return value
    if has_url_password(value) and "://" in value and "password=" not in value:
        scheme, _, remainder = value.partition("://")
        login, _, host = remainder.rpartition("@")
        return f"{scheme}://{login.partition(':')[0]}:{HIDDEN_VALUE}@{host}"
    return HIDDEN_VALUE


SETTING_FACTS: Final[Sequence[Fact[ShownSetting]]] = (
    Fact("name", lambda setting: setting.name, "setting"),
    Fact("value", lambda setting: setting.value, "value", wraps=True),
    Fact("source", lambda setting: setting.source, "from"),
    Fact("line", lambda setting: setting.line),
)


def build_settings_json(settings: Sequence[ShownSetting], file: SettingsFile | None) -> dict[str, object]:
    """Return the settings as JSON data."""
    return {"file": None if file is None else str(file.path), "settings": build_list_json(SETTING_FACTS, settings)}


def print_settings(settings: Sequence[ShownSetting], file: SettingsFile | None) -> None:
    """Print the settings that are set, and where others can be written."""
    if file is None:
        folders = " and ".join(str(path) for path in list_default_places())
        print_to_stderr(f"There is no settings file: neither {SETTINGS_VARIABLE} names one, nor is one in {folders}.")
    else:
        print_unwrapped(f"settings file: {file.path}")
        print_to_stdout("")
    if not settings:
        print_to_stdout("Nothing is set: all defaults hold. docs/reference/settings.md has the names.")
        return
    print_to_stdout(build_list_table(SETTING_FACTS, settings))
