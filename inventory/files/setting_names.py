"""The names that a settings file and the environment may have. docs/reference/settings.md has the same list."""

from collections.abc import Mapping
from typing import Final


def _read_table(text: str) -> Mapping[str, str]:
    """Return what each name says."""
    return {name: meaning.strip() for name, _, meaning in (row.partition(" ") for row in text.strip().splitlines())}


SETTINGS_VARIABLE: Final = "FLEETPATCH_SETTINGS"
SETTINGS: Final = _read_table("""
PREFECT_API_URL               Prefect's server: http://127.0.0.1:4200/api
FLEETPATCH_INVENTORY          the inventory: a file or a folder
FLEETPATCH_CONFIGURATIONS     the configurations, with the policy beside them: a file or a folder
FLEETPATCH_RECORDS_URL        the database of the records
FLEETPATCH_FLEET              the fleet, where several share a server and a database
FLEETPATCH_POLICY             a further policy file
FLEETPATCH_HOTPATCH_BASELINES a table of hotpatch baselines
FLEETPATCH_KEYS               the folder of keys
FLEETPATCH_HOOK_ENVIRONMENT   further variables that hooks get
FLEETPATCH_AUDIT_SYSLOG       where the audit log is forwarded to: syslog
FLEETPATCH_AUDIT_WEBHOOK      where the audit log is forwarded to: a webhook
FLEETPATCH_AUDIT_WEBHOOK_KEY  the key of that webhook: a reference
FLEETPATCH_PUBLIC_URL         the address of Prefect's UI for browsers, behind a proxy
FLEETPATCH_REDIS_URL          Redis, for `fleetpatch server --redis env:FLEETPATCH_REDIS_URL`
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
"""Each setting, and what it says."""
ENVIRONMENT_ONLY: Final = _read_table("""
FLEETPATCH_SETTINGS           the settings file
FLEETPATCH_TRUSTED_OWNERS     further owners of files that are trusted
FLEETPATCH_SERVER_OPTIONS     options of the server's unit
FLEETPATCH_WEB_OPTIONS        options of the pages' unit
""")
"""What is only read in the environment: a file can't say who may have written it, and systemd reads options itself."""
