"""Says whether the pages have read the policy that was deployed: they tell early what the engine will decide."""

import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from flows.policy.policy_file import load_policy
from inventory.errors import InventoryError
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.storage.database import Database
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
