"""Attacks on Prefect's servers by settings that open them: such a server does not start."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from prefect.context import SettingsContext, get_settings_context
from prefect.settings import Settings

from flows.prefect_api.application import build_application
from flows.prefect_api.port_listeners import HOSTS_VARIABLE, build_server_command, open_listener
from flows.prefect_api.server_settings import ALLOWED_ORIGINS_VARIABLE, GUARD_SETTINGS
from tests.support.environment import PYTHONPATH, without_ours

START_SECONDS: Final = 240.0


def build_open_environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a server, with settings of its owner that win over those of fleetpatch."""
    return {
        **without_ours(),
        **{each.name: each.value for each in GUARD_SETTINGS},
        ALLOWED_ORIGINS_VARIABLE: "",
        HOSTS_VARIABLE: "127.0.0.1",
        "PREFECT_SERVER_API": json.dumps({"auth_string": "run:secret", **settings}),
    }


@pytest.mark.slow
def test_no_server_starts_open(tmp_path: Path) -> None:
    """Attacker: a web page, or another user. Way: the owner's environment has settings, in a form that wins over those
    of fleetpatch, which open the server. What must hold: it does not start."""
    with open_listener("127.0.0.1", 0) as listener:
        done = subprocess.run(
            build_server_command(listener),
            env={
                **build_open_environment({"cors_allowed_origins": "*"}),
                "PREFECT_HOME": str(tmp_path),
                "PYTHONPATH": PYTHONPATH,
            },
            pass_fds=(listener.fileno(),), capture_output=True, text=True, check=False, timeout=START_SECONDS,
        )  # fmt: skip
    assert done.returncode == 1
    assert "RuntimeError: a Prefect server needs protection" in done.stderr


@pytest.mark.parametrize(
    ("settings", "need"),
    [
        ({"cors_allowed_origins": "*"}, "protection"),
        ({"csrf_protection_enabled": False}, "protection"),
        ({"auth_string": None}, "a password"),
    ],
    ids=str,
)
def test_no_setting_opens_a_server(settings: dict[str, Any], need: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker and way: the same, with each such setting. What must hold: there is no application to serve."""
    environment = build_open_environment(settings)
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    context = SettingsContext(profile=get_settings_context().profile, settings=Settings())
    with context, pytest.raises(RuntimeError, match=f"a Prefect server needs {need}"):
        build_application()
