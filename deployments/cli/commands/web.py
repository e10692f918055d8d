"""web: serve the pages, and manage who may use them."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import InventoryOption, RecordsOption, app, parse_path

web_app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="Serve the pages over the records.")
app.add_typer(web_app, name="web", rich_help_panel="Set up")


@web_app.callback()
def serve_pages(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 4280,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="PATH", parser=parse_path, help="Configurations.")
    ] = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
) -> None:
    """Serve the pages over the records. Ctrl-C or SIGTERM ends it."""
    if context.invoked_subcommand is not None:
        return
    from deployments.web.server import serve
    from deployments.web.settings import WebSettings

    serve(WebSettings(host=host, port=port, records_url=records, inventory=inventory, configurations=config))
