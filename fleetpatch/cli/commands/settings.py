"""settings and version: show the settings and where each comes from, and the installed versions."""

import platform

from fleetpatch.cli.app import JsonOption, app
from fleetpatch.cli.runtime.output import print_json, print_json_or_text, print_to_stdout


@app.command("settings", rich_help_panel="Set up")
def show_settings(as_json: JsonOption = False) -> None:
    """Show each setting, its value, and whether it comes from the environment or the settings file. Hides secrets."""
    import os

    from fleetpatch.cli.views.settings import build_settings_json, list_shown_settings, print_settings
    from inventory.files.settings_file import read_settings_file

    file = read_settings_file(os.environ)
    settings = list_shown_settings(os.environ, file)
    print_json_or_text(as_json, build_settings_json, print_settings, settings, file)


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
