"""What every page uses: settings, records, and the templates."""

import threading
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from fastapi import Request

from fleetpatch.access.limiter import FailureLimiter, NameLimiter
from fleetpatch.access.providers.login_file import read_login_file
from fleetpatch.access.providers.logins import Logins, build_logins
from fleetpatch.access.sessions import BOUND_SESSION_LENGTH, KEY_NAME, SESSION_LENGTH, SessionLimits, Sessions
from fleetpatch.machines.fleet_reader import FleetReader
from fleetpatch.runs.plan_view import PlanReader
from fleetpatch.settings import WebSettings
from fleetpatch.updates.pending_index import PendingIndexReader
from fleetpatch.web.certificate import read_certificate_end
from fleetpatch.web.live_hub import LiveHub
from fleetpatch.web.prefect_watcher import PrefectWatcher
from flows.policy.policy_file import load_policy
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.files.own_keys import ensure_key
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.records.access_tokens import SqlAccessTokens
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.queries.history import History
from tasks.records.queries.runs import RunFigures
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.database import Database
from tasks.records.web_sessions import UseTimes
from tasks.rules.policy.decision import describe_difference

_AGE: Final = timedelta(minutes=1)


class PolicyDifference:
    """Compares the policy of the pages with those that were deployed, once in a minute. All threads may share it.

    ``configurations``: the file or folder that the pages use; None: the usual ones.
    """

    def __init__(self, configurations: Path | None, database: Database) -> None:
        self._configurations = configurations
        self._log = SqlAuditLog(database)
        self._lock = threading.Lock()
        self._read_at: datetime | None = None
        self._text = ""

    def read(self, now: datetime) -> str:
        """Return how the two differ; "" if they don't. Raise RecordsError if the records can't be read."""
        with self._lock:
            if self._read_at is None or not timedelta(0) <= now - self._read_at < _AGE:
                self._text, self._read_at = self._compare(now), now
            return self._text

    def _compare(self, now: datetime) -> str:
        try:
            files = load_policy(now.date(), self._configurations).files
        except InventoryError as error:
            return f"policy: {error.message}"
        deployed = read_deployed_policies(self._log)
        deployed_digests = {file.digest for policy in deployed for file in policy.files}
        if new := [file.path for file in files if file.digest not in deployed_digests]:
            return f"The policy {', '.join(new)} is not deployed: runs may be held by another one. fleetpatch deploy"
        if reason := describe_difference(deployed, files):
            return f"These pages don't have the policy that holds for runs: {reason}"
        return ""


MAX_STRANGERS_REFUSALS: Final = 200
"""How many refused requests of strangers stand in the audit log, a minute, however many addresses they have."""


@dataclass
class WebContext:
    """The shared objects of a web process. All threads use them."""

    settings: WebSettings
    records: SqlRecords  # open until the process ends
    clock: Clock
    # When the certificate ends that was read at the start; None without one.
    certificate_ends_at: datetime | None = None
    logins: Logins | None = None  # the providers that log people in; None: there is none

    @cached_property
    def history(self) -> History:
        """Read access to the records."""
        return History(self.records)

    @cached_property
    def run_figures(self) -> dict[str, RunFigures]:
        """The figures of runs that are over, by run id."""
        return {}

    @cached_property
    def failed_logins(self) -> FailureLimiter:
        """Counts the logins that failed."""
        return FailureLimiter()

    @cached_property
    def failed_oidc(self) -> FailureLimiter:
        """Counts the answers of the OpenID Connect provider that failed. They hold up no other way to log in."""
        return FailureLimiter()

    @cached_property
    def password_tries(self) -> NameLimiter:
        """Limits the tries of passwords for each name of a directory."""
        return NameLimiter()

    @cached_property
    def refusals(self) -> FailureLimiter:
        """Counts the refused requests of strangers that stand in the audit log."""
        return FailureLimiter(most=MAX_STRANGERS_REFUSALS)

    @cached_property
    def token_uses(self) -> UseTimes:
        """Stores the last use of access tokens."""
        return UseTimes(SqlAccessTokens(self.records.database).store_use, "tokens")

    @cached_property
    def form_key(self) -> bytes:
        """The key that CSRF tokens are made with."""
        return ensure_key("web-forms")

    @cached_property
    def sessions(self) -> Sessions:
        """The browsers that are logged in."""
        length = SESSION_LENGTH if self.settings.is_secure else BOUND_SESSION_LENGTH
        limits = SessionLimits(length, self.settings.idle_length)
        return Sessions(self.records.database, ensure_key(KEY_NAME), limits, self.clock)

    @cached_property
    def fleet(self) -> FleetReader:
        """The machines with their state, and the configurations."""
        return FleetReader(self.settings, self.records.database, self.clock)

    @cached_property
    def policy_difference(self) -> PolicyDifference:
        """Whether the pages have the policy that was deployed."""
        return PolicyDifference(self.settings.configurations, self.records.database)

    @cached_property
    def prefect_watcher(self) -> PrefectWatcher:
        """Looks at Prefect once a minute, without any worker."""
        return PrefectWatcher(self.records, self.settings.fleet, self.clock)

    @cached_property
    def plans(self) -> PlanReader:
        """The plans of runs that wait for approval."""
        return PlanReader(self.history)

    @cached_property
    def live(self) -> LiveHub:
        """The streams of what happens now."""
        return LiveHub()

    @cached_property
    def pending(self) -> PendingIndexReader:
        """The pending updates of the fleet."""
        return PendingIndexReader(self.records.database, self.clock)


def get_context(request: Request) -> WebContext:
    """Return the shared objects."""
    context: WebContext = request.app.state.context
    return context


def build_context(settings: WebSettings, records: SqlRecords, clock: Clock | None = None) -> WebContext:
    """Return the shared objects for records that are open.

    Raises:
        CannotRun: the certificate can't be read.
        KeyFileError: a key of the pages can't be read or made.
        InvalidInventory: the file of logins has faults.
    """
    certificate = settings.tls_certificate
    ends_at = read_certificate_end(certificate) if certificate is not None else None
    clock = clock or SystemClock()
    logins = build_logins(read_login_file(settings.logins), clock) if settings.logins is not None else None
    context = WebContext(settings, records, clock, ends_at, logins)
    _ = context.form_key, context.sessions  # a fault of a key is said at the start
    return context
