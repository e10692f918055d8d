"""version: print the installed versions."""

import platform

from fleetpatch.cli.app import JsonOption, app
from fleetpatch.cli.runtime.output import print_json, print_to_stdout


@app.command("version", rich_help_panel="Set up")
def print_version(as_json: JsonOption = False) -> None:
    """Print the versions of fleetpatch and of important libraries."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {}
    for name in ("fleetpatch", "prefect", "fastapi", "sqlalchemy", "paramiko", "pandas"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    versions["python"] = platform.python_version()
    if as_json:
        print_json(versions)
        return
    print_to_stdout(f"fleetpatch {versions.pop('fleetpatch')}")
    print_to_stdout("  " + ", ".join(f"{name} {library_version}" for name, library_version in versions.items()))
