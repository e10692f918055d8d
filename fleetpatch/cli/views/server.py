"""Prints the settings of the server, and its startup message."""

import shlex

from rich.text import Text

from deployments.server.launch_plan import TLS_ADVICE, LaunchPlan
from deployments.server.settings import PREFECT_SETTINGS, UI_API_URL_VARIABLE
from fleetpatch.cli.runtime.output import print_json, print_to_stderr, print_to_stdout, print_unwrapped, to_safe_text
from flows.prefect_api.server_settings import SettingTarget


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
