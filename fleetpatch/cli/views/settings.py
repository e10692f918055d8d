"""Prints settings and where they come from, those of Prefect's server too, and builds their JSON."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from deployments.server.launch_plan import TLS_ADVICE, LaunchPlan
from deployments.server.settings import PREFECT_SETTINGS, UI_API_URL_VARIABLE
from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout, print_unwrapped, to_safe_text
from fleetpatch.cli.runtime.table import build_table, build_unwrapped_column
from flows.prefect_api.server_settings import SettingTarget
from inventory.files.settings_file import (
    ENVIRONMENT_ONLY,
    OUR_PREFIX,
    SETTINGS,
    SETTINGS_VARIABLE,
    SettingsFile,
    has_url_password,
    is_secret,
    list_default_places,
)

HIDDEN_VALUE: Final = "(hidden)"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting that is set.

    Attributes:
        value: safe to show.
        source: where it comes from, in words.
        line: of the file, if it comes from there.
    """

    name: str
    value: str
    source: str
    line: int | None = None


def list_shown_settings(environ: Mapping[str, str], file: SettingsFile | None) -> Sequence[ShownSetting]:
    """Return the settings that are set: first those that everybody needs, then what else there is by name.

    Args:
        environ: the environment, with what the file has put into it.
        file: the settings file.
    """
    in_file = file.settings if file is not None else {}
    set_names = [name for name in SETTINGS if environ.get(name)]
    others = {name for name in environ if name.startswith(OUR_PREFIX)} | set(in_file)
    names = [*set_names, *sorted(others - set(set_names) - {SETTINGS_VARIABLE})]
    return [_build_row(name, environ, file) for name in names if environ.get(name)]


def _build_row(name: str, environ: Mapping[str, str], file: SettingsFile | None) -> ShownSetting:
    value = environ[name]
    shown = _hide(name, value)
    setting = file.settings.get(name) if file is not None else None
    if setting is not None and setting.value == value:
        return ShownSetting(name, shown, f"line {setting.line}", setting.line)
    if setting is not None:
        return ShownSetting(name, shown, f"environment, not line {setting.line}")
    if name.startswith(OUR_PREFIX) and name not in SETTINGS and name not in ENVIRONMENT_ONLY:
        return ShownSetting(name, shown, "environment: unknown")
    return ShownSetting(name, shown, "environment")


def _hide(name: str, value: str) -> str:
    """Return a value that is safe to show."""
    if not is_secret(name, value):
        return value
    if has_url_password(value) and "://" in value and "password=" not in value:
        scheme, _, remainder = value.partition("://")
        login, _, host = remainder.rpartition("@")
        return f"{scheme}://{login.partition(':')[0]}:{HIDDEN_VALUE}@{host}"
    return HIDDEN_VALUE


def build_settings_json(shown: Sequence[ShownSetting], file: SettingsFile | None) -> dict[str, object]:
    """Return the settings as JSON data."""
    return {
        "file": None if file is None else str(file.path),
        "settings": [
            {"name": setting.name, "value": setting.value, "source": setting.source, "line": setting.line}
            for setting in shown
        ],
    }


def print_settings(shown: Sequence[ShownSetting], file: SettingsFile | None) -> None:
    """Print the settings that are set, and where others can be written."""
    if file is None:
        places = " and ".join(str(path) for path in list_default_places())
        print_to_stderr(f"There is no settings file: neither {SETTINGS_VARIABLE} names one, nor is one in {places}.")
    else:
        print_unwrapped(f"settings file: {file.path}")
        print_to_stdout("")
    if not shown:
        print_to_stdout("Nothing is set: all defaults hold. docs/reference/settings.md has the names.")
        return
    table = build_table(build_unwrapped_column("setting"), "value", build_unwrapped_column("from"))
    for setting in shown:
        table.add_row(to_safe_text(setting.name), to_safe_text(setting.value), to_safe_text(setting.source))
    print_to_stdout(table)


def print_launch_plan(plan: LaunchPlan) -> None:
    """Print the environment of the server and of workers. Passwords are hidden."""
    print_to_stdout(Text("The server:", style="bold"))
    for row in plan.planned_settings:
        _print_setting(row.name, row.value, f"{row.source}: {row.why}")
    print_to_stdout("", Text("Workers, beside PREFECT_API_URL:", style="bold"))
    for setting in PREFECT_SETTINGS:
        if setting.target in {SettingTarget.WORKER, SettingTarget.BOTH}:
            _print_setting(setting.name, setting.value, setting.reason)


def _print_setting(name: str, value: str, why: str) -> None:
    """Print a setting so that it can be copied, and below it why it is so."""
    print_to_stdout(to_safe_text(f"{name}={value}"), Text.assemble("    ", to_safe_text(why, "dim")))


def print_launch_plan_json(plan: LaunchPlan) -> None:
    """Print the plan as JSON data. Passwords are hidden."""
    rows = [{"name": r.name, "value": r.value, "source": r.source, "why": r.why} for r in plan.planned_settings]
    workers = {
        setting.name: setting.value
        for setting in PREFECT_SETTINGS
        if setting.target in {SettingTarget.WORKER, SettingTarget.BOTH}
    }
    print_json(
        {
            "ui": plan.ui_url,
            "home": str(plan.home),
            "passwordFile": str(plan.login_path) if plan.login_path is not None else None,
            "server": rows,
            "worker": workers,
        }
    )


def print_startup(plan: LaunchPlan) -> None:
    """Print the addresses and paths of the server before the server's own output."""
    database = next(row.value for row in plan.planned_settings if row.name.endswith("DATABASE_CONNECTION_URL"))
    print_to_stdout(f"UI        {plan.ui_url}", f"database  {database}", f"home      {plan.home}")
    if plan.login_path is not None:
        print_to_stdout("password  the browser asks for it once; to show it:")
        print_unwrapped(f"cat {shlex.quote(str(plan.login_path))}")
    else:
        print_to_stdout("password  given to the server; clients and workers need it in PREFECT_API_AUTH_STRING")
    print_to_stdout(f"For the command and workers: export PREFECT_API_URL={plan.environment[UI_API_URL_VARIABLE]}")
    if plan.is_exposed and plan.ui_url.startswith("http://"):
        print_to_stderr(TLS_ADVICE)
