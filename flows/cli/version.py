"""version: which fleetpatch this is."""

from flows.cli.app import app
from flows.cli.options import JsonOption


@app.command("version", rich_help_panel="Set up")
def version(as_json: JsonOption = False) -> None:
    """Print the version of fleetpatch, and of what bites when it is another."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    from flows.cli.screen import print_json, say

    found: dict[str, str] = {}
    for name in ("fleetpatch", "prefect", "fastapi", "sqlalchemy", "paramiko", "pandas"):
        try:
            found[name] = version_of(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["python"] = platform.python_version()
    if as_json:
        print_json(found)
        return
    say(f"fleetpatch {found.pop('fleetpatch')}")
    say("  " + ", ".join(f"{name} {each}" for name, each in found.items()))
