"""The server's settings on the screen, and what is said when it starts."""

from deployments.server.plan import TLS_ADVICE, Plan
from deployments.server.settings import AUTH, TABLE
from flows.cli.screen import note, safe, say, solid, table
from flows.server_settings import Part


def tell_plan(plan: Plan) -> None:
    """Show the environment that the server would have, and what workers want. Passwords are hidden."""
    grid = table(solid("variable"), "value", solid("from"), "why", title="The server")
    for row in plan.rows:
        grid.add_row(row.name, safe(row.value), row.source, row.why)
    workers = table(solid("variable"), "value", "why", title="Workers, beside PREFECT_API_URL")
    for each in TABLE:
        if each.part in {Part.WORKER, Part.BOTH}:
            workers.add_row(each.name, each.value, each.why)
    say(grid, "", workers)


def plan_document(plan: Plan) -> dict[str, object]:
    """Return it as JSON data. Passwords are hidden."""
    rows = [{"name": r.name, "value": r.value, "source": r.source, "why": r.why} for r in plan.rows]
    workers = {each.name: each.value for each in TABLE if each.part in {Part.WORKER, Part.BOTH}}
    return {"ui": plan.ui, "home": str(plan.home), "server": rows, "worker": workers}


def tell_start(plan: Plan) -> None:
    """Say where everything will be, before the server says its own."""
    database = next(row.value for row in plan.rows if row.name.endswith("DATABASE_CONNECTION_URL"))
    say(f"UI        {plan.ui}", f"database  {database}", f"home      {plan.home}")
    if AUTH in plan.environment:
        say("password  asked of everyone; clients and workers have it in PREFECT_API_AUTH_STRING")
    say(f"Tell the command and workers: export PREFECT_API_URL={plan.environment['PREFECT_UI_API_URL']}")
    if plan.exposed and plan.ui.startswith("http://"):
        note(TLS_ADVICE)
