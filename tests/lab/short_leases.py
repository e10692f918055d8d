"""The command with leases that end soon when its process dies: tests need not wait a minute for each.

python -m tests.lab.short_leases WORDS…
"""

import sys

from fleetpatch.cli.main import main
from flows.engine import run_lease

LEASE_SECONDS = 15.0  # a process that lives renews it each second: on cores that others use, that is late at times

if __name__ == "__main__":
    run_lease.LEASE_SECONDS, run_lease.RENEW_SECONDS = LEASE_SECONDS, 1.0
    sys.exit(main())
