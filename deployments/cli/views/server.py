"""Prints the settings of the server, and its startup message."""

import shlex

from deployments.server.launch_plan import TLS_ADVICE, LaunchPlan
from deployments.server.settings import PREFECT_SETTINGS, UI_API_URL_VARIABLE
from flows.cli.runtime.output import print_to_stderr, print_to_stdout, print_unwrapped, to_safe_text
from flows.cli.runtime.table import build_table, build_unwrapped_column
from flows.prefect_api.server_settings import SettingTarget


def print_launch_plan(plan: LaunchPlan) -> None:
    """Print the environment of the server and of workers. Passwords are hidden."""
    grid = build_table(
        build_unwrapped_column("variable"), "value", build_unwrapped_column("from"), "why", title="The server"
    )
    for row in plan.planned_settings:
        grid.add_row(row.name, to_safe_text(row.value), row.source, row.why)
    workers = build_table(build_unwrapped_column("variable"), "value", "why", title="Workers, beside PREFECT_API_URL")
    for each in PREFECT_SETTINGS:
        if each.target in {SettingTarget.WORKER, SettingTarget.BOTH}:
            workers.add_row(each.name, each.value, each.reason)
    print_to_stdout(grid, "", workers)


def build_launch_plan_json(plan: LaunchPlan) -> dict[str, object]:
    """Return the plan as JSON data. Passwords are hidden."""
    rows = [{"name": r.name, "value": r.value, "source": r.source, "why": r.why} for r in plan.planned_settings]
    workers = {
        each.name: each.value for each in PREFECT_SETTINGS if each.target in {SettingTarget.WORKER, SettingTarget.BOTH}
    }
    return {
        "ui": plan.ui_url,
        "home": str(plan.home),
        "passwordFile": str(plan.login_path) if plan.login_path is not None else None,
        "server": rows,
        "worker": workers,
    }


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
