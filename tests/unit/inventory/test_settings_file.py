"""The settings file: where it is looked for, what wins, and what is refused with file, line, name and remedy."""

import ast
import os
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from fleetpatch.settings import list_web_options
from inventory.errors import InventoryError
from inventory.files import settings_file
from inventory.files.settings_file import (
    ENVIRONMENT_ONLY,
    SETTINGS,
    InvalidSettings,
    apply_settings_file,
    read_settings_file,
)
from tests.ci.tree import TOP
from tests.support.command import run_command

INTERNAL = {"FLEETPATCH_SERVER_HOSTS"}  # one process tells another


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(settings_file, "HOST_FILE", tmp_path / "host.env")
    (tmp_path / "user/fleetpatch").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def apply(**environment: str) -> dict[str, str]:
    apply_settings_file(environment)
    return environment


def test_one_file_is_read_and_the_environment_wins_over_it(place: Path) -> None:
    for name in ("fleetpatch.env", ".env"):
        (place / name).write_text("FLEETPATCH_FLEET=here")  # the current folder: never read
    assert apply() == {}

    files = {"host": "host.env", "user": "user/fleetpatch/fleetpatch.env", "named": "named.env"}
    for name, file in files.items():
        (place / file).write_text(f"FLEETPATCH_FLEET={name}\nFLEETPATCH_WEB_ZONE=Europe/Paris\n")
        named = {"FLEETPATCH_SETTINGS": str(place / file)} if name == "named" else {}
        assert apply(**named)["FLEETPATCH_FLEET"] == name
    settings = apply(FLEETPATCH_FLEET="mine", FLEETPATCH_WEB_ZONE="")
    assert settings == {
        "FLEETPATCH_FLEET": "mine",
        "FLEETPATCH_WEB_ZONE": "Europe/Paris",  # empty is not set: compose can't leave a variable out
        "FLEETPATCH_SETTINGS": str(place / files["user"]),  # the processes that this one starts read the same
    }
    (place / files["user"]).unlink()
    (place / files["user"]).symlink_to(place / "nowhere")
    with pytest.raises(InvalidSettings, match="can't be read: No such file"):
        apply()  # not the host's: somebody meant this one
    with pytest.raises(InventoryError, match=r"gone\.env.*there is no such file, named by FLEETPATCH_SETTINGS"):
        apply(FLEETPATCH_SETTINGS=str(place / "gone.env"))


@pytest.mark.parametrize("value", ["plain", "'two words'", '"two words"', "", "''", "a=b,c:d/e?f@g#h%20", "Zürich"])
def test_a_value_is_read_as_by_other_programs(place: Path, value: str) -> None:
    (place / "host.env").write_text(f"# ours\n\nFLEETPATCH_FLEET={value}\n")
    file = read_settings_file({})
    assert file is not None
    assert {name: each.value for name, each in file.settings.items()} == dotenv_values(place / "host.env")
    assert [each.line for each in file.settings.values()] == [3]


@pytest.mark.parametrize(
    ("line", "fault", "remedy"),
    [
        ("FLEETPATCH_INVENTROY=x", "FLEETPATCH_INVENTROY: fleetpatch knows no", "Did you mean 'FLEETPATCH_INVENTORY'"),
        ("FLEETPATCH_TRUSTED_OWNERS=anna", "FLEETPATCH_TRUSTED_OWNERS: it is not read", "systemctl edit"),
        ("FLEETPATCH_SETTINGS=x", "FLEETPATCH_SETTINGS: it is not read", "in the environment"),
        ("export FLEETPATCH_FLEET=x", "no setting", "without export"),
        ("FLEETPATCH_FLEET = x", "no setting", "without blanks"),
        ("FLEETPATCH_FLEET", "no setting", "NAME=value"),
        *((f"FLEETPATCH_FLEET={value}", "not read this value alike", "quotes around it")
          for value in ("$HOME/x", "a # b", "'a", "a'b", "a\\b", "two words", "`id`", "a\x00b")),
        ("A=1\nA=2", "A: it is set twice, first in line 1", "Remove one"),
        ("FLEETPATCH_RECORDS_URL=postgresql://a:b@h/d", "it is a secret, and others can read this file", "chmod 600"),
        ("PREFECT_API_AUTH_STRING=fleet:secret", "it is a secret", "a file that only root reads"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_told_with_file_line_name_and_remedy(place: Path, line: str, fault: str, remedy: str) -> None:
    (place / "host.env").write_text(f"{line}\n")
    (place / "host.env").chmod(0o644)
    with pytest.raises(InvalidSettings) as caught:
        apply()
    assert str(caught.value).startswith(f"{place}/host.env:{len(line.splitlines())}: ")
    assert fault in str(caught.value)
    assert remedy in caught.value.hint


def test_a_file_that_others_can_write_is_refused_and_one_with_secrets_is_closed(place: Path) -> None:
    file = place / "host.env"
    file.write_text("FLEETPATCH_RECORDS_URL=postgresql://a:b@h/d\nFLEETPATCH_VAULT_TOKEN=env:TOKEN\n")
    file.chmod(0o600)
    assert apply()["FLEETPATCH_RECORDS_URL"] == "postgresql://a:b@h/d"
    file.chmod(0o666)
    with pytest.raises(InvalidSettings, match=r"host\.env: this file is not trusted") as caught:
        apply()
    assert "chmod" in caught.value.hint


def test_the_command_shows_what_is_set_and_where_it_comes_from(place: Path) -> None:
    text = "PREFECT_API_URL=http://127.0.0.1:4200/api\nFLEETPATCH_FLEET=file\nVAULT_ADDR=https://vault\n"
    (place / "host.env").write_text(text)
    given = {"FLEETPATCH_FLEET": "mine", "FLEETPATCH_RECORDS_URL": "postgresql://a:hunter2@h/d", "FLEETPATCH_X": "1"}
    environment = {"XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"], "HOME": str(place), "COLUMNS": "80", **given}
    done = run_command(["settings"], environment, place)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == f"settings file: {place}/host.env"
    assert {
        "PREFECT_API_URL http://127.0.0.1:4200/api line 1",
        "FLEETPATCH_FLEET mine environment, not line 2",
        "VAULT_ADDR https://vault line 3",
        "FLEETPATCH_X 1 environment: unknown",
    } <= set(lines)
    assert "hunter2" not in done.stdout + run_command(["settings", "--json"], environment, place).stdout

    (place / "host.env").write_text("FLEETPATCH_FLEETS=a\n")
    broken = run_command(["runs"], environment, place)
    assert broken.returncode == 2
    assert f"{place}/host.env:1: FLEETPATCH_FLEETS" in broken.stderr
    assert run_command(["runs", "--help"], environment, place).returncode == 0


def test_the_list_of_settings_is_what_the_program_reads_and_what_the_reference_says() -> None:
    found: set[str] = set()
    for path in (
        path
        for part in ("inventory", "tasks", "flows", "deployments", "fleetpatch")
        for path in (TOP / part).rglob("*.py")
    ):
        if path.name != "settings_file.py":
            constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            found |= {
                text for text in constants if isinstance(text, str) and re.fullmatch("FLEETPATCH_[A-Z_]+[A-Z]", text)
            }
    found |= {option.variable for _, _, option, _ in list_web_options() if option.variable} - {"PREFECT_UI_URL"}
    elsewhere = {"FLEETPATCH_REDIS_URL", "FLEETPATCH_SERVER_OPTIONS", "FLEETPATCH_SETTINGS", "FLEETPATCH_WEB_OPTIONS"}
    known = {*SETTINGS, *ENVIRONMENT_ONLY}
    assert found - INTERNAL == {name for name in known - elsewhere if name.startswith("FLEETPATCH_")}
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (TOP / "docs/reference/settings.md").read_text(), re.MULTILINE))
    assert rows == {**SETTINGS, **ENVIRONMENT_ONLY}
