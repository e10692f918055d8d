"""Unit files and the compose file: they say what the table of settings says, and hold no secret."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.server.settings import build_environment
from flows.prefect_api.encryption_key import KEY_NAME
from flows.prefect_api.server_login import KEY_NAME as LOGIN_NAME
from flows.prefect_api.server_settings import SettingTarget
from flows.prefect_api.tags import build_site_name
from inventory.files.own_keys import CREDENTIAL_PREFIX, CREDENTIALS_VARIABLE
from tasks.records.pages_role import PAGES_ROLE
from tasks.records.seals import RUN_KEY
from tests.ci import tree

UNITS = sorted((tree.TOP / "deployments/units").glob("*.service"))
WORKERS = [path for path in UNITS if re.match(r"fleetpatch-(serve\.|worker)", path.name)]
WEB = tree.TOP / "deployments/units/fleetpatch-web.service"
EVENTS = WEB.with_name("fleetpatch-events.service")
COMPOSE = tree.TOP / "deployments/compose/compose.yaml"
SITE_COMPOSE = COMPOSE.with_name("site.yaml")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
SENSITIVE = re.compile(r"PASSWORD|AUTH")


class Unit:
    """A unit file; keys may stand several times."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        parser = configparser.RawConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self.text)
        self.service = dict(parser["Service"])
        self.environment = dict(re.findall(r"^Environment=(\w+)=(.*)$", self.text, re.MULTILINE))


def test_there_are_units() -> None:
    assert [path.name for path in UNITS] == [
        "fleetpatch-events.service",
        "fleetpatch-server.service",
        "fleetpatch-web.service",
        "fleetpatch-worker@.service",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_ended_and_guarded_as_it_should_be(path: Path) -> None:
    unit = Unit(path)
    assert unit.service["KillMode"] == "mixed"
    assert int(unit.service["TimeoutStopSec"]) >= 60
    assert unit.service["Restart"] == "always"
    assert unit.service["UMask"] == "0077"
    optional = "-" if path.name == "fleetpatch-server.service" else ""  # without theirs, others would use other records
    assert unit.service["EnvironmentFile"].startswith(f"{optional}/etc/fleetpatch/")
    assert unit.service["NoNewPrivileges"] == "yes"
    assert unit.service["ProtectSystem"] == "strict"
    assert unit.service["User"] not in {"", "root"}
    # there root keeps jobs of a machine that is patched: who owns the folder could replace them
    assert "/var/lib/fleetpatch/" not in unit.text
    states = {"fleetpatch-server", "fleetpatch-controller", "fleetpatch-web", "fleetpatch-endpoint"}
    assert unit.service["StateDirectory"] in states
    assert not [name for name in unit.environment if SENSITIVE.search(name)]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_can_not_use_up_its_machine(path: Path) -> None:
    service = Unit(path).service
    high, most = (int(service[name].removesuffix("%")) for name in ("MemoryHigh", "MemoryMax"))
    assert 0 < high < most <= 60
    assert int(service["LimitNOFILE"]) > 2 * 500  # a run works on so many machines at the same time
    assert int(service["TasksMax"]) <= 8192
    assert service["LimitCORE"] == "0"  # the memory of a process has passwords


@pytest.mark.parametrize("path", WORKERS, ids=lambda path: path.name)
def test_a_run_that_is_too_large_ends_no_other_run(path: Path) -> None:
    # By default, systemd stops the whole unit when the kernel ends one of its processes.
    assert Unit(path).service["OOMPolicy"] == "continue"
    assert int(Unit(path).service["TasksMax"]) > 3 * 500


@pytest.mark.parametrize("path", WORKERS, ids=lambda path: path.name)
def test_units_of_workers_have_the_tables_settings(path: Path) -> None:
    told = {name: value for name, value in Unit(path).environment.items() if name not in {"HOME", "PREFECT_HOME"}}
    assert told == build_environment(SettingTarget.WORKER)


def test_the_servers_unit_leaves_its_settings_to_the_program() -> None:
    (server,) = [path for path in UNITS if path not in {*WORKERS, WEB, EVENTS}]
    assert set(Unit(server).environment) == {"HOME"}


def test_the_server_alone_gets_the_key_of_secret_blocks() -> None:
    line = f"LoadCredential={CREDENTIAL_PREFIX}{KEY_NAME}:/etc/fleetpatch/{KEY_NAME}"
    assert [path.name for path in UNITS if line in Unit(path).text.splitlines()] == ["fleetpatch-server.service"]


def test_every_credential_has_an_absolute_path_and_is_made_before_the_first_start() -> None:
    # systemd 249 passes over a credential without a path. What the guide does not make would keep a unit from starting.
    guide = (tree.TOP / "docs/how-to/services.md").read_text().partition("systemctl enable")[0]
    lines = [line for path in UNITS for line in re.findall(r"(?m)^LoadCredential=(.*)$", Unit(path).text)]
    files = {file for credential, _, file in (line.partition(":") for line in lines)}
    assert {line for line in lines if ":" not in line} == set()
    assert files == {
        f"/etc/fleetpatch/{name}" for name in (LOGIN_NAME, KEY_NAME, "audit", "decisions", "token-verification")
    }
    assert {file for file in files if f"> {file}" not in guide} == set()


def test_the_pages_have_a_user_of_their_own_without_keys() -> None:
    unit = Unit(WEB)
    assert unit.service["User"] not in {Unit(path).service["User"] for path in UNITS if path != WEB}
    assert unit.service["StateDirectory"] == "fleetpatch-web"
    assert "worker.env" not in unit.text
    told = {name: value for name, value in unit.environment.items() if name not in {"HOME", "PREFECT_HOME"}}
    assert told == build_environment(SettingTarget.BOTH)


def test_the_endpoint_of_events_has_a_user_of_its_own_and_no_key() -> None:
    unit = Unit(EVENTS)
    assert unit.service["User"] not in {Unit(path).service["User"] for path in UNITS if path != EVENTS}
    assert "LoadCredential" not in unit.text
    assert "worker.env" not in unit.text


def test_pages_are_there_while_the_server_is_not() -> None:
    assert "ExecStartPre" not in Unit(WEB).service
    assert set(SERVICES["web"]["depends_on"]) == {"postgres"}


def test_every_user_of_a_unit_is_created() -> None:
    created = set(re.findall(r"^u (\S+) ", (WEB.parent / "fleetpatch.sysusers.conf").read_text(), re.MULTILINE))
    assert {Unit(path).service["User"] for path in UNITS} == created


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    # Installed they name programs and users that a test machine has not: these two are replaced.
    for path in UNITS:
        text = re.sub(r"/opt/fleetpatch/bin/\w+", "/bin/true", path.read_text())
        (tmp_path / path.name.replace("@.", "@pool.")).write_text(re.sub(r"(?m)^User=.*$", "User=root", text))
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(files) == len(UNITS)


def run_admin(folder: Path, *words: str) -> list[str]:
    """Run fleetpatch-admin. Return the words that systemd-run gets."""
    program = folder / "systemd-run"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    done = subprocess.run(
        [tree.TOP / "deployments/units/fleetpatch-admin", *words],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "SUDO_USER": "anna"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_the_command_beside_the_units_is_the_workers_user_with_its_keys(tmp_path: Path) -> None:
    words = run_admin(tmp_path, "approve", "RUN")
    (path,) = [path for path in WORKERS if "worker" in path.name]
    credentials = re.findall(r"(?m)^(LoadCredential=.*)$", Unit(path).text)
    assert [word.removeprefix("--property=") for word in words if "LoadCredential" in word] == credentials
    service = Unit(path).service
    assert f"--uid={service['User']}" in words
    for name in ("EnvironmentFile", "StateDirectory", "StateDirectoryMode", "UMask"):
        assert f"--property={name}={service[name]}" in words
    for name in ("HOME", "PREFECT_HOME"):
        assert f"--setenv={name}={Unit(path).environment[name].replace('%S', '/var/lib')}" in words
    assert {"--pipe", "--wait", "--collect", "--setenv=SUDO_USER=anna"} <= set(words)
    assert words[-4:] == ["--", "/opt/fleetpatch/bin/fleetpatch", "approve", "RUN"]


def test_systemd_replaces_nothing_in_what_the_command_beside_the_units_is_told(tmp_path: Path) -> None:
    words = run_admin(tmp_path, "approve", "--remark", "for ${HOME} and $5", "", "*")
    assert words[-5:] == ["approve", "--remark", "for $${HOME} and $$5", "", "*"]


# ---------------------------------------------------------------- compose


def test_no_password_has_a_default() -> None:
    used = re.findall(r"(?<!\$)\$\{(\w+)(:?[-?])?([^}]*)\}", COMPOSE.read_text())
    secrets = {(name, how) for name, how, _ in used if SENSITIVE.search(name)}
    assert {name for name, _ in secrets} == {
        "PAGES_DB_PASSWORD", "POSTGRES_PASSWORD", "PREFECT_DB_PASSWORD", "RECORDS_DB_PASSWORD", "REDIS_PASSWORD",
    }  # fmt: skip
    assert {how for _, how in secrets} == {":?"}


def test_every_service_that_can_tell_is_asked_for_its_health() -> None:
    assert all("healthcheck" in each for each in SERVICES.values())
    assert set(SERVICES["server"]["depends_on"]) == {"postgres", "redis"}
    assert {each["condition"] for each in SERVICES["worker"]["depends_on"].values()} == {"service_healthy"}


def test_only_the_server_and_the_pages_are_reached_from_outside_and_only_by_their_own_machine() -> None:
    ports = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert list(ports) == ["server", "web"]
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)


def test_the_pages_in_compose_see_no_keys_and_have_the_tables_settings() -> None:
    web = SERVICES["web"]
    files = [each for each in web["volumes"] if isinstance(each, dict)]  # of a missing one, docker makes no folder
    assert [each["target"] for each in files] == ["/etc/fleetpatch/fleetpatch.env", "/etc/fleetpatch/fleet.yaml"]
    assert not any(each["bind"]["create_host_path"] for each in files)
    folders = [each.split(":")[-2] for each in web["volumes"] if each not in files]
    assert [each for each in folders if "/etc" in each] == ["/etc/fleetpatch/configurations"]
    assert build_environment(SettingTarget.BOTH).items() <= web["environment"].items()
    keys = {name: [each["source"] for each in SERVICES[name]["secrets"]] for name in ("web", "worker")}
    assert keys == {
        "web": [LOGIN_NAME, "decisions", "audit", "token-verification"],
        "worker": [LOGIN_NAME, "decisions", "audit"],
    }


def test_no_inventory_of_a_worker_in_compose_can_name_a_key_of_fleetpatch() -> None:
    (configuration,) = [each for each in SERVICES["worker"]["volumes"] if "/etc/fleetpatch" in each]
    assert configuration == "${FLEETPATCH_CONFIG:-/etc/fleetpatch}:/etc/fleetpatch:ro"
    hidden = {each.partition(":")[0] for each in SERVICES["worker"]["tmpfs"]}
    secrets = yaml.safe_load(COMPOSE.read_text())["secrets"]
    folders = {str(Path(each["file"]).parent) for each in secrets.values()}
    assert folders == {"${FLEETPATCH_CONFIG:-/etc/fleetpatch}/keys"}
    assert "/etc/fleetpatch/keys" in hidden


def test_messages_of_workers_have_the_links_of_the_pages_and_of_prefect() -> None:
    assert SERVICES["worker"]["environment"]["FLEETPATCH_WEB_URL"] == "${FLEETPATCH_WEB_URL:-}"
    assert SERVICES["worker"]["environment"]["PREFECT_UI_URL"] == "${FLEETPATCH_PUBLIC_URL:-}"
    assert "--public-url ${FLEETPATCH_WEB_URL:-" in SERVICES["web"]["command"]
    assert "--public-url ${FLEETPATCH_PUBLIC_URL:-" in SERVICES["server"]["command"]


def test_single_sign_on_is_set_from_the_env_file() -> None:
    for name in ("TRUSTED_PROXY", "USER_HEADER", "ROLES_HEADER"):  # empty is as not set
        assert SERVICES["web"]["environment"][f"FLEETPATCH_WEB_{name}"] == f"${{FLEETPATCH_WEB_{name}:-}}"


def test_workers_in_compose_have_the_tables_settings() -> None:
    environment = SERVICES["worker"]["environment"]
    assert {key: environment.get(key) for key in build_environment(SettingTarget.WORKER)} == build_environment(
        SettingTarget.WORKER
    )
    assert environment["PREFECT_API_URL"] == "http://server:4200/api"
    # workers and pages read the same configurations, and the policy beside them
    assert environment["FLEETPATCH_CONFIGURATIONS"] == SERVICES["web"]["environment"]["FLEETPATCH_CONFIGURATIONS"]


def test_the_servers_password_reaches_each_program_as_a_file_and_no_environment() -> None:
    credential = f"LoadCredential={CREDENTIAL_PREFIX}{LOGIN_NAME}:/etc/fleetpatch/{LOGIN_NAME}"
    without = {path.name: path.read_text() for path in UNITS if credential not in path.read_text().splitlines()}
    assert set(without) == {"fleetpatch-events.service"}  # it never asks the server
    assert "LoadCredential" not in without["fleetpatch-events.service"]
    document = yaml.safe_load(COMPOSE.read_text())
    assert document["secrets"][LOGIN_NAME]["file"].endswith(f"/{LOGIN_NAME}")
    for name in ("server", "worker", "web"):
        assert SERVICES[name]["secrets"][0] == {"source": LOGIN_NAME, "target": CREDENTIAL_PREFIX + LOGIN_NAME}
        assert SERVICES[name]["environment"][CREDENTIALS_VARIABLE] == "/run/secrets"
        assert not [variable for variable in SERVICES[name]["environment"] if "AUTH" in variable]
    assert "--allow-host server" in SERVICES["server"]["command"]  # its name in PREFECT_API_URL of the others


def test_the_worker_of_another_site_in_compose_is_the_controllers_with_its_own_site_and_addresses() -> None:
    document = yaml.safe_load(SITE_COMPOSE.read_text())
    assert list(document["services"]) == ["worker"]
    here, there = SERVICES["worker"], document["services"]["worker"]
    assert {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)} == {
        "depends_on", "entrypoint", "environment", "secrets",
    }  # fmt: skip
    own = {
        key: value for key, value in there["environment"].items() if here["environment"].get(key) != value
    }  # all others are the controller's
    assert here["environment"].keys() - there["environment"].keys() == set()
    assert own.keys() == {"FLEETPATCH_SITE", "PREFECT_API_URL", "FLEETPATCH_RECORDS_URL"}
    assert all(value.startswith(f"${{{key}:?") for key, value in own.items())  # none has a default
    pool = here["entrypoint"].index("--pool") + 1
    assert there["entrypoint"][pool].startswith("${FLEETPATCH_POOL:-fleetpatch}-${FLEETPATCH_SITE:?")
    assert there["entrypoint"][:pool] + there["entrypoint"][pool + 1 :] == (
        here["entrypoint"][:pool] + here["entrypoint"][pool + 1 :]
    )
    assert build_site_name("fleetpatch", "hamburg") == "fleetpatch-hamburg"  # as in the entrypoint
    seal = {"source": RUN_KEY, "target": CREDENTIAL_PREFIX + RUN_KEY}
    assert there["secrets"] == [*here["secrets"], seal]
    files = {name: secret["file"] for name, secret in document["secrets"].items()}
    assert files == {
        secret["source"]: f"${{FLEETPATCH_CONFIG:-/etc/fleetpatch}}/keys/{secret['source']}"
        for secret in there["secrets"]
    }
    assert "ports" not in there


def test_the_page_that_starts_a_site_by_compose_sets_what_its_file_needs() -> None:
    required = set(re.findall(r"(?<!\$)\$\{(\w+):\?", SITE_COMPOSE.read_text()))
    block = (tree.TOP / "docs/how-to/services.md").read_text().partition("/etc/fleetpatch/site.env <<END")[2]
    assert set(re.findall(r"(?m)^    (\w+)=", block.partition("END")[0])) == required


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_stands_in_arguments(name: str) -> None:
    words = f"{SERVICES[name].get('command')} {SERVICES[name].get('entrypoint')}"
    assert not re.search(r"(?<!\$)\$\{\w*(PASSWORD|AUTH)", words)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert "/tmp" in service["tmpfs"]
    assert 0 < service["pids_limit"] <= 8192
    assert re.fullmatch(r"\$\{\w+:-[1-4]g\}", service["mem_limit"])
    assert service["ulimits"] == {"nofile": 65536, "core": 0}
    assert not {"cap_add", "privileged"} & set(service)
    # ours is not root by its image; the others' images begin as root where nothing else is said
    assert service["image"] == "fleetpatch" or re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])


def test_server_and_workers_have_a_role_each_and_none_is_the_superuser() -> None:
    said = COMPOSE.read_text()
    users = re.findall(r"postgresql://(\w+):\$\{(\w+):\?[^}]*\}@postgres/(\w+)", said)
    assert set(users) == {
        ("prefect", "PREFECT_DB_PASSWORD", "prefect"), ("records", "RECORDS_DB_PASSWORD", "fleetpatch"),
        (PAGES_ROLE, "PAGES_DB_PASSWORD", "fleetpatch"),
    }  # fmt: skip
    holders = {
        secret: {name for name, each in SERVICES.items() if secret in str(each)}
        for secret in (
            "PAGES_DB_PASSWORD", "POSTGRES_PASSWORD", "PREFECT_DB_PASSWORD", "RECORDS_DB_PASSWORD", "REDIS_PASSWORD",
        )
    }  # fmt: skip
    assert holders == {
        "POSTGRES_PASSWORD": {"postgres"},
        "PREFECT_DB_PASSWORD": {"postgres", "server"},
        "RECORDS_DB_PASSWORD": {"postgres", "worker"},
        "PAGES_DB_PASSWORD": {"postgres", "web"},
        "REDIS_PASSWORD": {"redis", "server"},
    }


def test_the_image_is_made_of_the_lock() -> None:
    dockerfile = (COMPOSE.parent / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert re.findall(r"-r /build/(\S+\.lock)", dockerfile) == ["requirements-build.lock", "requirements.lock"]
    kept = dockerfile.split("\nFROM ")[-1]  # what builds the wheel stays in the first stage
    assert re.findall(r"^COPY --from=build (\S+)", kept, re.MULTILINE) == ["/opt/fleetpatch"]
    assert "\nUSER fleetpatch\n" in dockerfile
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()
    }
    assert {name for name in copied if not (tree.TOP / name).exists()} == set()
    allowed = (COMPOSE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert {name.split("/")[0] for name in copied} <= {
        line.removeprefix("!") for line in allowed if line.startswith("!")
    }
