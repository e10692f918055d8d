"""What a run teaches about a machine's speed. Pure.

A measure of a machine is the exponentially weighted mean over its past runs: recent ones count most, and one odd run
doesn't overturn it.
"""

import math
from collections.abc import Sequence

from tasks.model import Outcome, TransactionResult
from tasks.rules.updates.duration_prediction import Rates
from tasks.states import RebootState

NEWEST_SAMPLE_WEIGHT = 0.3
"""Weight of the newest sample. After five runs on new hardware, five sixths of the mean are about it."""

MAX_SAMPLES = 25
"""How many samples go into a mean; those before them would weigh 0.7^25, some 0.01 percent."""

INSTALL_SECONDS_PER_UPDATE = "install_seconds_per_update"
TRANSACTION_SECONDS = "transaction_seconds"
DOWNLOAD_BYTES_PER_SECOND = "download_bytes_per_second"
REBOOT_SECONDS = "reboot_seconds"

MIN_MEASURED_DOWNLOAD_BYTES = 1_000_000
"""Of a smaller download, most of the time is not spent downloading: its rate would make a large one look hopeless."""


def compute_weighted_mean(values: Sequence[float]) -> float | None:
    """Return the exponentially weighted mean of samples, oldest first; None when there are none."""
    if not values:
        return None
    mean = values[0]
    for value in values[1:]:
        mean += NEWEST_SAMPLE_WEIGHT * (value - mean)
    return mean


def compute_measures(outcome: Outcome) -> dict[str, float]:
    """Return what an outcome measured: measure -> value.

    Only work that succeeded counts: how long a failure took says nothing.

    - ``transaction_seconds``: what a transaction costs before its first update.
    - ``install_seconds_per_update``: what each update adds.
    - ``download_bytes_per_second``: of what was staged, when it was enough to tell.
    - ``reboot_seconds``: from the order until a login worked.

    How the time of a transaction divides between its fixed part and its updates can't be seen from outside. It is
    divided as the package manager's defaults have it, so that the two together predict exactly what was measured.
    """
    measured: dict[str, float] = {}
    timed = [
        (seconds, t) for t in _find_successful_transactions(outcome) if (seconds := _compute_seconds(t)) is not None
    ]
    if timed:
        usual = Rates.build_default(outcome.facts.managers[0] if outcome.facts and outcome.facts.managers else "")
        fixed = usual.transaction_seconds / usual.install_seconds_per_update  # in updates
        each = sum(seconds for seconds, _ in timed) / sum(fixed + len(t.updates) for _, t in timed)
        measured[TRANSACTION_SECONDS] = fixed * each
        measured[INSTALL_SECONDS_PER_UPDATE] = each
    staged = outcome.install
    if staged is not None and staged.staged_seconds and (staged.staged_bytes or 0) >= MIN_MEASURED_DOWNLOAD_BYTES:
        measured[DOWNLOAD_BYTES_PER_SECOND] = (staged.staged_bytes or 0) / staged.staged_seconds
    reboot = outcome.reboot_result
    if reboot is not None and reboot.state is RebootState.COMPLETED:
        known = [seconds for seconds in (reboot.down_seconds, reboot.up_seconds) if seconds is not None]
        if len(known) == 2:
            measured[REBOOT_SECONDS] = sum(known)
    return {measure: value for measure, value in measured.items() if math.isfinite(value) and value > 0}


def _find_successful_transactions(outcome: Outcome) -> tuple[TransactionResult, ...]:
    """Return the transactions that installed something; a repair has no updates of its own."""
    done = outcome.install.transactions if outcome.install else ()
    return tuple(t for t in done if t.exit_code == 0 and t.updates)


def _compute_seconds(transaction: TransactionResult) -> float | None:
    if transaction.started_at is None or transaction.ended_at is None:
        return None
    seconds = (transaction.ended_at - transaction.started_at).total_seconds()
    return seconds if seconds >= 0 else None  # the machine's clock was set back meanwhile
