"""What `fleetpatch server` would start, worked out from options and an environment; nothing is started."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings.models.root import _get_setting_accessor

from deployments.server import settings
from deployments.server.connection_urls import (
    InvalidConnectionUrl,
    build_database_url,
    has_password,
    hide_password,
    require_redis_url,
)
from deployments.server.launch_plan import (
    HIDDEN_VALUE,
    LaunchPlan,
    ServerOptions,
    UnsafeServerOptions,
    build_launch_plan,
)
from deployments.server.settings import PREFECT_SETTINGS, build_environment
from flows.prefect_api.port_listeners import HOSTS_VARIABLE
from flows.prefect_api.server_login import find_login_path
from flows.prefect_api.server_settings import ALLOWED_ORIGINS_VARIABLE, SettingTarget
from inventory.errors import CredentialError
from tasks.domain.errors import CannotRun

HOME = Path("/srv/prefect")
LOGIN = "u:geheim"
SECRET = "fleet:4ad8c1f0b7e2d9"  # pragma: allowlist secret


def plan(environ: dict[str, str] | None = None, **wanted: object) -> LaunchPlan:
    return build_launch_plan(ServerOptions(**{"home": HOME, **wanted}), environ or {})  # type: ignore[arg-type]


def row(made: LaunchPlan, name: str) -> str:
    (found,) = [each.value for each in made.planned_settings if each.name == name]
    return found


def test_a_laptop_needs_nothing() -> None:
    made = plan()
    assert (made.host, made.port) == ("127.0.0.1", 4200)
    assert made.environment["PREFECT_HOME"] == str(HOME)
    assert made.environment[settings.DATABASE_URL_VARIABLE] == "sqlite+aiosqlite:////srv/prefect/prefect.db"
    assert made.environment[HOSTS_VARIABLE] == "127.0.0.1,localhost,[::1]"
    assert not made.is_exposed
    assert made.ui_url == "http://127.0.0.1:4200"


def test_it_has_every_setting_of_the_table() -> None:
    made = plan()
    wanted = {each.name: each.value for each in PREFECT_SETTINGS if each.target is not SettingTarget.WORKER}
    assert len(wanted) > 10
    assert {name: made.environment.get(name) for name in wanted} == wanted
    assert {each.name for each in made.planned_settings} >= set(wanted)


def test_the_key_of_secret_blocks_is_a_file_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path))
    name = "PREFECT_SERVER_ENCRYPTION_KEY"
    (told,) = [each for each in plan().planned_settings if each.name == name]
    assert (told.value, told.source) == ("(hidden)", str(tmp_path / "prefect-encryption"))
    assert list(tmp_path.iterdir()) == []  # to show a plan makes no key
    (told,) = [each for each in plan({name: SECRET}).planned_settings if each.name == name]
    assert (told.value, told.source) == ("(hidden)", "environment")


def test_every_setting_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({each.name for each in PREFECT_SETTINGS}) == len(PREFECT_SETTINGS)
    assert [each.name for each in PREFECT_SETTINGS if not each.reason.endswith(".")] == []


def test_what_the_environment_says_stands() -> None:
    name = "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE"
    made = plan({name: "50", "PATH": "/bin"})
    assert made.environment[name] == "50"
    assert made.environment["PATH"] == "/bin"
    assert {each.source for each in made.planned_settings if each.name == name} == {"environment"}


@pytest.mark.parametrize("name", [settings.DATABASE_URL_VARIABLE, settings.LEGACY_DATABASE_URL_VARIABLE])
def test_a_database_of_the_environment_is_put_in_prefects_words(name: str) -> None:
    made = plan({name: f"postgresql://{LOGIN}@db/prefect"})
    assert made.environment[settings.DATABASE_URL_VARIABLE] == f"postgresql+asyncpg://{LOGIN}@db/prefect"
    assert settings.LEGACY_DATABASE_URL_VARIABLE not in made.environment
    assert made.environment[settings.DATABASE_DRIVER_VARIABLE] == "postgresql+asyncpg"
    assert row(made, settings.DATABASE_URL_VARIABLE) == "postgresql+asyncpg://u:***@db/prefect"


# ---------------------------------------------------------------- who reaches it


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "192.0.2.7"])
def test_it_always_has_a_password_which_the_first_start_makes(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path))
    made = plan(host=host)
    assert made.login_path == find_login_path()
    assert not made.login_path.exists()  # a plan changes nothing
    assert settings.AUTH_VARIABLE not in made.environment
    assert row(made, settings.AUTH_VARIABLE) == HIDDEN_VALUE
    assert plan({settings.AUTH_VARIABLE: SECRET}, host=host).login_path is None


def test_reached_from_elsewhere_it_is_exposed() -> None:
    assert [plan(host=host).is_exposed for host in ("127.0.0.1", "::1", "localhost")] == [False] * 3
    assert [plan(host=host).is_exposed for host in ("0.0.0.0", "::", "192.0.2.7", "fleet.example.org")] == [True] * 4
    made = plan(public_url="https://fleet.example.org/")
    assert made.is_exposed
    assert made.ui_url == "https://fleet.example.org"
    assert made.environment[settings.UI_API_URL_VARIABLE] == "https://fleet.example.org/api"
    assert "https://fleet.example.org" in made.environment[ALLOWED_ORIGINS_VARIABLE].split(",")


def test_it_is_asked_by_its_own_names_only() -> None:
    made = plan(host="192.0.2.7", public_url="https://Fleet.example.org:8443", allowed_hosts=("server", "2001:db8::7"))
    names = made.environment[HOSTS_VARIABLE].split(",")
    assert names == ["127.0.0.1", "localhost", "[::1]", "192.0.2.7", "fleet.example.org", "server", "[2001:db8::7]"]
    assert socket.gethostname() in plan(host="0.0.0.0").environment[HOSTS_VARIABLE].split(",")


@pytest.mark.parametrize("name", ["*", "*.example.org", "http://fleet", "a,b", "a b", "-"])
def test_a_name_that_would_open_it_is_refused(name: str) -> None:
    with pytest.raises(UnsafeServerOptions, match="no name of a server"):
        plan(allowed_hosts=(name,))


def test_pages_can_not_forge_requests_and_no_other_server_starts() -> None:
    made = plan().environment
    assert made["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"
    assert made["PREFECT_SERVER_EPHEMERAL_ENABLED"] == "false"
    assert build_environment(SettingTarget.WORKER)["PREFECT_SERVER_EPHEMERAL_ENABLED"] == "false"


@pytest.mark.parametrize("auth", ["short:pw", "nocolonatallinthislongtext", ":passwordpassword", "frank:"])
def test_a_weak_or_malformed_password_is_refused(auth: str) -> None:
    with pytest.raises(UnsafeServerOptions, match="user:password") as refused:
        plan({settings.AUTH_VARIABLE: auth})
    assert auth not in str(refused.value) + refused.value.hint


def test_an_empty_password_is_none() -> None:
    made = plan({settings.AUTH_VARIABLE: " "})
    assert settings.AUTH_VARIABLE not in made.environment
    assert made.login_path is not None


def test_a_password_comes_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    made = plan(auth=f"file:{file}", host="0.0.0.0")
    assert made.environment[settings.AUTH_VARIABLE] == SECRET
    assert SECRET not in repr(made)
    file.chmod(0o644)
    with pytest.raises(CredentialError, match="open to others"):
        plan(auth=f"file:{file}")


def test_no_password_is_taken_from_an_argument() -> None:
    with pytest.raises(UnsafeServerOptions, match="--auth"):
        plan(auth=SECRET)
    with pytest.raises(UnsafeServerOptions, match="--database contains a password"):
        plan(database=f"postgresql://{LOGIN}@db/prefect")


def test_a_url_with_a_password_comes_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG", f"postgresql://{LOGIN}@db/prefect")
    made = plan(database="env:PG")
    assert made.environment[settings.DATABASE_URL_VARIABLE] == f"postgresql+asyncpg://{LOGIN}@db/prefect"
    assert not [each for each in made.planned_settings if "geheim" in each.value]
    assert "geheim" not in repr(made)


def test_no_page_elsewhere_may_read_the_api() -> None:
    assert plan().environment[ALLOWED_ORIGINS_VARIABLE] == "http://127.0.0.1:4200,http://localhost:4200"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "*"),
        ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "https://fleet.example.org, *"),
        ("PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED", "false"),
        ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "0"),
        ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "perhaps"),
    ],
)
def test_an_environment_that_lets_other_pages_in_is_refused(name: str, value: str) -> None:
    with pytest.raises(UnsafeServerOptions, match="other web pages") as refused:
        plan({name: value})
    assert name in refused.value.hint


@pytest.mark.parametrize(("name", "second"), settings.SECOND_NAMES.items())
def test_a_setting_may_come_by_its_second_name_and_the_first_wins(name: str, second: str) -> None:
    assert {_get_setting_accessor(name)} == {_get_setting_accessor(second)}
    for environ in ({second: "Yes"}, {name: "Yes", second: "no"}):
        made = plan(environ)
        assert second not in made.environment
        assert made.environment[name] == ("true" if "CSRF" in name else "Yes")


def test_prefects_own_server_is_off_whatever_is_set() -> None:
    assert plan({"PREFECT_SERVER_EPHEMERAL_ENABLED": "1"}).environment["PREFECT_SERVER_EPHEMERAL_ENABLED"] == "false"


@pytest.mark.parametrize("url", ["fleet.example.org", "ftp://x", "https://"])
def test_a_public_url_is_a_web_address(url: str) -> None:
    with pytest.raises(UnsafeServerOptions, match="web address"):
        plan(public_url=url)


# ---------------------------------------------------------------- Redis


def test_redis_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CannotRun, match="prefect-redis") as refused:
        plan(redis="redis://localhost/0")
    assert "pip install" in refused.value.hint


def test_redis_carries_events_leases_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("REDIS", "redis://:geheim@redis:6379/0")
    made = plan(redis="env:REDIS")
    assert {name: made.environment[name] for name in settings.REDIS_SETTINGS} == settings.REDIS_SETTINGS
    assert made.environment[settings.REDIS_URL_VARIABLE] == made.environment[settings.DOCKET_URL_VARIABLE]
    assert row(made, settings.REDIS_URL_VARIABLE) == "redis://:***@redis:6379/0"
    with pytest.raises(InvalidConnectionUrl):
        require_redis_url("http://redis", "--redis")


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("postgresql://u@h:5433/db", "postgresql+asyncpg://u@h:5433/db"),
        (f"postgres://{LOGIN}%40x@h/db?sslmode=require", f"postgresql+asyncpg://{LOGIN}%40x@h/db?ssl=require"),
        ("postgresql:///db?host=/run/postgresql", "postgresql+asyncpg:///db?host=/run/postgresql"),
        ("postgresql://u@/db?host=/tmp", "postgresql+asyncpg://u@/db?host=/tmp"),
        ("postgresql+asyncpg://u@h/db", "postgresql+asyncpg://u@h/db"),
        ("sqlite:////var/lib/x.db", "sqlite+aiosqlite:////var/lib/x.db"),
    ],
)
def test_addresses_in_prefects_words(given: str, wanted: str) -> None:
    assert build_database_url(given, "--database") == wanted
    assert build_database_url(wanted, "--database") == wanted


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (f"mysql://{LOGIN}@h/db", "unknown kind"),
        (f"postgresql://{LOGIN}@h", "names no database"),
        (f"postgresql://{LOGIN}@h/db?sslrootcert=/ca", "sslrootcert"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        (f"postgresql://{LOGIN}@h:port/db", "can't be read"),
        ("geheim", "can't be read"),
        ("postgresql://u:ge heim@h/db", "can't be read"),
    ],
)
def test_addresses_that_cannot_be_used(given: str, told: str) -> None:
    with pytest.raises(InvalidConnectionUrl, match=told) as refused:
        build_database_url(given, "--database")
    assert "geheim" not in str(refused.value) + refused.value.hint


@given(st.text(), st.sampled_from(["postgresql://", "redis://", "", "postgresql://u:"]))
def test_any_text_is_an_address_or_refused(text: str, before: str) -> None:
    try:
        made = build_database_url(before + text, "--database")
    except InvalidConnectionUrl:
        return
    assert made.startswith(("postgresql+asyncpg://", "sqlite+aiosqlite:///"))


@given(st.text(alphabet="abcdefgh0123456789-_.~", min_size=1))
def test_a_password_is_never_shown(password: str) -> None:
    login = f"IIII:{password}XYZ"
    url = f"postgresql://{login}@HOST:5432/DB?sslmode=require"
    assert has_password(url)
    assert f"{password}XYZ" not in hide_password(url)
    assert hide_password(url) == "postgresql://IIII:***@host:5432/DB"
