"""The settings file: variables that the command, the server, workers and pages read before anything else.

A line is ``NAME=value``, a comment or empty. The value stands there as it is, with quotes around it if need be. Other
programs can read the same file (``EnvironmentFile=`` of systemd, ``env_file`` of compose, dotenv), so a value that
they would not read alike is refused.
"""

import os
import re
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

import platformdirs

from inventory.addresses import has_url_password
from inventory.data_class import dataclass
from inventory.errors import InvalidFiles, InventoryError
from inventory.files.paths import expand_home
from inventory.files.problems import ProblemCollector, SourceLocation, did_you_mean
from inventory.files.text_files import read_text_file


def _read_table(text: str) -> Mapping[str, str]:
    """Return what each name says."""
    return {name: meaning.strip() for name, _, meaning in (row.partition(" ") for row in text.strip().splitlines())}


SETTINGS_VARIABLE: Final = "FLEETPATCH_SETTINGS"
SETTINGS: Final = _read_table("""
PREFECT_API_URL               Prefect's server: http://127.0.0.1:4200/api
FLEETPATCH_INVENTORY          the inventory: a file or a folder
FLEETPATCH_CONFIGURATIONS     the configurations, with the policy beside them: a file or a folder
FLEETPATCH_RECORDS_URL        the database of the records
FLEETPATCH_RECORDS_CONNECTIONS how many connections to PostgreSQL a process opens at most: 10
FLEETPATCH_FLEET              the fleet, where several share a server and a database
FLEETPATCH_SITE               the site of this machine, where a fleet has several
FLEETPATCH_SHARD_SIZE         how many machines one process patches at most: 500
FLEETPATCH_POLICY             a further policy file
FLEETPATCH_COMPONENTS         the components of machines: a file
FLEETPATCH_IMAGES             images, and the machines that get them as OS disks: a file
FLEETPATCH_PROVIDERS          who holds the disks of machines: a file
FLEETPATCH_HOTPATCH_BASELINES a table of hotpatch baselines
FLEETPATCH_AZURE_ARC          the resource group of machines at Azure Arc, for their licences of hotpatches
FLEETPATCH_AZURE_ARC_TOKEN    Azure's access token: a reference
FLEETPATCH_KEYS               the folder of keys
FLEETPATCH_HOOK_ENVIRONMENT   further variables that hooks get
FLEETPATCH_AUDIT_SYSLOG       where the audit log is forwarded to: syslog
FLEETPATCH_AUDIT_WEBHOOK      where the audit log is forwarded to: a webhook
FLEETPATCH_AUDIT_WEBHOOK_KEY  the key of that webhook: a reference
FLEETPATCH_PUBLIC_URL         the address of Prefect's UI for browsers, behind a proxy
FLEETPATCH_REDIS_URL          Redis, for `fleetpatch server --redis env:FLEETPATCH_REDIS_URL`
FLEETPATCH_EVENTS_HOST        the address that the endpoint of scheduled events listens on
FLEETPATCH_EVENTS_PORT        its port
FLEETPATCH_WEB_URL            the address of the pages for browsers
FLEETPATCH_WEB_HOST           the address that the pages listen on
FLEETPATCH_WEB_PORT           the port of the pages
FLEETPATCH_WEB_FLEET          the fleet of the pages, if it is not FLEETPATCH_FLEET
FLEETPATCH_WEB_ZONE           the time zone of times that belong to no window
FLEETPATCH_WEB_TLS            1: a certificate is made also for this machine alone
FLEETPATCH_WEB_TLS_CERT       the certificate of the pages
FLEETPATCH_WEB_TLS_KEY        its key: a path
FLEETPATCH_WEB_NO_TLS         1: others may connect without TLS
FLEETPATCH_WEB_REQUIRE_LOGIN  1: people on this machine must log in too
FLEETPATCH_WEB_IDLE_MINUTES   how long a login lasts without use
FLEETPATCH_WEB_LOGINS         how people log in: a file
FLEETPATCH_WEB_TRUSTED_PROXY  proxies whose headers are believed
FLEETPATCH_WEB_USER_HEADER    the header with the user's name
FLEETPATCH_WEB_ROLES_HEADER   the header with the user's roles
FLEETPATCH_WEB_PROXY_ROLE     roles of users whose roles the proxy does not name
FLEETPATCH_WEB_ALLOW_HOST     further names of the pages
FLEETPATCH_VAULT_TOKEN        the login of the secret store: a reference
FLEETPATCH_VAULT_ROLE_ID      login to Vault by a role (AppRole)
FLEETPATCH_VAULT_SECRET_ID    reference to the secret of that role
FLEETPATCH_VAULT_ROLE         login to Vault by a token of Kubernetes
FLEETPATCH_VAULT_JWT_FILE     file with that token
FLEETPATCH_VAULT_AUTH_MOUNT   where that login is mounted in the store
""")
"""Each setting, and what it says. docs/reference/settings.md has the same list."""
ENVIRONMENT_ONLY: Final = _read_table("""
FLEETPATCH_SETTINGS           the settings file
FLEETPATCH_TRUSTED_OWNERS     further owners of files that are trusted
FLEETPATCH_SERVER_OPTIONS     options of the server's unit
FLEETPATCH_WEB_OPTIONS        options of the pages' unit
""")
"""What is only read in the environment: a file can't say who may have written it, and systemd reads options itself."""
FILE_NAME: Final = "fleetpatch.env"
HOST_FILE: Final = Path("/etc/fleetpatch", FILE_NAME)
OUR_PREFIX: Final = "FLEETPATCH_"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME: Final = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|(API|ENCRYPTION|WEBHOOK)_KEY|CREDENTIAL")
_REFERENCE: Final = re.compile(r"(env|file|systemd|vault|prefect|keyring):")
_OTHERS_MAY_READ: Final = stat.S_IRGRP | stat.S_IROTH


class InvalidSettings(InvalidFiles):
    """All problems of a settings file."""

    subject = "settings file"


@dataclass(frozen=True, slots=True)
class FileSetting:
    """A line of the file."""

    value: str
    line: int


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file as it was read."""

    path: Path
    settings: Mapping[str, FileSetting]


def find_settings_file(environ: Mapping[str, str]) -> Path | None:
    """Return the one file that is read: that of FLEETPATCH_SETTINGS, else the user's, else the host's; or None.

    Raises:
        InventoryError: the file that FLEETPATCH_SETTINGS names does not exist.
    """
    if named := environ.get(SETTINGS_VARIABLE):
        path = expand_home(Path(named)).absolute()
        if not os.path.lexists(path):
            hint = "Correct the variable."
            raise InventoryError(f"there is no such file, named by {SETTINGS_VARIABLE}", file=path, hint=hint)
        return path
    return next((path for path in list_default_places() if os.path.lexists(path)), None)


def list_default_places() -> tuple[Path, ...]:
    """Return where the file is looked for: the user's and the host's place, never the current folder."""
    try:
        return (platformdirs.user_config_path("fleetpatch") / FILE_NAME, HOST_FILE)
    except RuntimeError:  # this user has no home directory
        return (HOST_FILE,)


def read_settings_file(environ: Mapping[str, str]) -> SettingsFile | None:
    """Find and read the file; None if there is none.

    Raises:
        InvalidSettings: it can't be read, somebody else may have written it, or lines are wrong. All faults are told.
    """
    path = find_settings_file(environ)
    if path is None:
        return None
    problems = ProblemCollector()
    text = read_text_file(path, problems, must_be_regular=True)
    settings: dict[str, FileSetting] = {}
    for number, line in enumerate((text or "").splitlines(), start=1):
        if not (stripped := line.strip()) or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        fault, plain = _find_name_fault(name if equals else "", settings), _strip_quotes(value)
        if fault is None and plain is None:
            hint = "Write it without $, \\, quotes inside and ' #', and with quotes around it if it has blanks."
            fault = "systemd, compose and fleetpatch would not read this value alike", hint
        if fault is not None:
            problems.add(SourceLocation(path, number, name.strip()[:80]), *fault)
        elif plain is not None:
            settings[name] = FileSetting(plain, number)
    if text is not None:
        _require_closed_secrets(path, settings, problems)
    problems.raise_if_any(InvalidSettings)
    return SettingsFile(path, settings)


def apply_settings_file(environ: MutableMapping[str, str]) -> None:
    """Put the settings of the file into an environment. What the environment has already wins, unless it is empty.

    Raises:
        InventoryError: see ``read_settings_file``.
    """
    file = read_settings_file(environ)
    if file is not None:
        environ.update({name: setting.value for name, setting in file.settings.items() if not environ.get(name)})
        environ[SETTINGS_VARIABLE] = str(file.path)  # for the processes that this one starts


def is_secret(name: str, value: str) -> bool:
    """Return whether a value is a secret: a password in a URL, or what the name says, unless it is a reference."""
    if _REFERENCE.match(value):
        return False
    return has_url_password(value) or (_SECRET_NAME.search(name) is not None and not name.endswith("_FILE"))


def _find_name_fault(name: str, settings: Mapping[str, FileSetting]) -> tuple[str, str] | None:
    """Return what is wrong with a name, and the remedy."""
    if not _NAME.fullmatch(name):
        return "this line is no setting", "Write NAME=value, without blanks around the sign and without export."
    if name in settings:
        return f"it is set twice, first in line {settings[name].line}", "Remove one of the lines."
    if name in ENVIRONMENT_ONLY:
        hint = "Set it in the environment: `systemctl edit` and Environment= for a unit, environment: in compose."
        return "it is not read from this file", hint
    if name.startswith(OUR_PREFIX) and name not in SETTINGS:
        hint = f"{did_you_mean(name, SETTINGS)}docs/reference/settings.md has all names. Correct or remove the line."
        return "fleetpatch knows no such setting", hint
    return None


def _strip_quotes(value: str) -> str | None:
    """Return the value without its quotes; None if other programs would read something else."""
    quote = value[:1] if value[:1] in {'"', "'"} else ""
    if quote and (len(value) < 2 or not value.endswith(quote)):
        return None
    plain = value[1:-1] if quote else value
    if any(character in plain for character in "\"'\\$`") or not plain.isprintable():
        return None
    if not quote and (plain != plain.strip() or re.search(r"\s#|^#", plain) or " " in plain):
        return None
    return plain


def _require_closed_secrets(path: Path, settings: Mapping[str, FileSetting], problems: ProblemCollector) -> None:
    """Others may read the file of the host. So a secret must not be in it."""
    if not path.stat().st_mode & _OTHERS_MAY_READ:
        return
    for name, setting in settings.items():
        if is_secret(name, setting.value):
            problems.add(
                SourceLocation(path, setting.line, name),
                "it is a secret, and others can read this file",
                f"Close the file: chmod 600 {path}. For services, put it into a file that only root reads "
                "(docs/how-to/services.md).",
            )
