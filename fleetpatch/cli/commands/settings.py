"""settings: show the settings, and where each comes from."""

from fleetpatch.cli.app import JsonOption, app


@app.command("settings", rich_help_panel="Set up")
def show_settings(as_json: JsonOption = False) -> None:
    """Show each setting, its value, and whether it comes from the environment or the settings file. Hides secrets."""
    import os

    from fleetpatch.cli.runtime.output import print_json
    from fleetpatch.cli.views.settings import build_settings_json, list_shown_settings, print_settings
    from inventory.files.settings_file import read_settings_file

    file = read_settings_file(os.environ)
    shown = list_shown_settings(os.environ, file)
    if as_json:
        print_json(build_settings_json(shown, file))
    else:
        print_settings(shown, file)
