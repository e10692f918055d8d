"""Computes how fast a machine is from the outcomes of its runs. Pure.

A measure of a machine is the exponentially weighted mean over its past runs. Recent runs have more weight, and one
unusual run does not change the mean much.
"""

import math
from collections.abc import Sequence

from tasks.domain.model import Outcome, TransactionResult
from tasks.domain.states import RebootState

NEWEST_SAMPLE_WEIGHT = 0.3
"""Weight of the newest sample. After five runs on new hardware, 5/6 of the mean come from the new hardware."""

MAX_SAMPLES = 25
"""Maximum number of samples in a mean. Older samples would have a weight of 0.7^25, about 0.01 percent."""

INSTALL_SECONDS_PER_UPDATE = "install_seconds_per_update"
TRANSACTION_SECONDS = "transaction_seconds"
DOWNLOAD_BYTES_PER_SECOND = "download_bytes_per_second"
REBOOT_SECONDS = "reboot_seconds"

MIN_MEASURED_DOWNLOAD_BYTES = 1_000_000
"""Smaller downloads are not measured: most of their time is overhead, so their rate is too low for a large download."""

_UNKNOWN_OVERHEAD_UPDATES = 7.5
"""The fixed time of a transaction, in updates, for outcomes of earlier versions, which do not say it: 15 s to 2 s."""


def compute_weighted_mean(values: Sequence[float]) -> float | None:
    """Return the exponentially weighted mean of samples (oldest first); None if there are none."""
    if not values:
        return None
    mean = values[0]
    for value in values[1:]:
        mean += NEWEST_SAMPLE_WEIGHT * (value - mean)
    return mean


def compute_measures(outcome: Outcome) -> dict[str, float]:
    """Return the measures of an outcome: name -> value.

    Only successful work counts: the duration of a failure says nothing about the speed.

    - ``transaction_seconds``: the fixed time of a transaction, before its first update.
    - ``install_seconds_per_update``: the additional time of each update.
    - ``download_bytes_per_second``: of staged updates, if at least MIN_MEASURED_DOWNLOAD_BYTES were downloaded.
    - ``reboot_seconds``: from the reboot command to the first login that works.

    The fixed time and the time of each update cannot be measured separately. Their ratio comes from the package
    manager's default rates; their sum is exactly the measured time.
    """
    measured: dict[str, float] = {}
    timed = [
        (seconds, t) for t in _find_successful_transactions(outcome) if (seconds := _compute_seconds(t)) is not None
    ]
    if timed:
        fixed = _UNKNOWN_OVERHEAD_UPDATES
        if outcome.install is not None and outcome.install.overhead_updates is not None:
            fixed = outcome.install.overhead_updates
        mean_seconds = sum(seconds for seconds, _ in timed) / sum(fixed + len(t.updates) for _, t in timed)
        measured[TRANSACTION_SECONDS] = fixed * mean_seconds
        measured[INSTALL_SECONDS_PER_UPDATE] = mean_seconds
    staged = outcome.install
    if staged is not None and staged.staged_seconds and (staged.staged_bytes or 0) >= MIN_MEASURED_DOWNLOAD_BYTES:
        measured[DOWNLOAD_BYTES_PER_SECOND] = (staged.staged_bytes or 0) / staged.staged_seconds
    reboot = outcome.reboot_result
    if reboot is not None and reboot.state is RebootState.COMPLETED:
        phases = [seconds for seconds in (reboot.down_seconds, reboot.up_seconds) if seconds is not None]
        if len(phases) == 2:
            measured[REBOOT_SECONDS] = sum(phases)
    return {measure: value for measure, value in measured.items() if math.isfinite(value) and value > 0}


def _find_successful_transactions(outcome: Outcome) -> tuple[TransactionResult, ...]:
    """Return the successful transactions that installed updates. A repair has no updates, so it is not included."""
    done = outcome.install.transactions if outcome.install else ()
    return tuple(t for t in done if t.exit_code == 0 and t.updates)


def _compute_seconds(transaction: TransactionResult) -> float | None:
    if transaction.started_at is None or transaction.ended_at is None:
        return None
    seconds = (transaction.ended_at - transaction.started_at).total_seconds()
    return seconds if seconds >= 0 else None  # negative: the machine's clock was set back
