"""How a run reaches the runs that carry out its shards: started once each, looked at, and asked to stop."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from inventory.data_class import dataclass
from tasks.domain.model import Outcome, RunInfo, RunReport
from tasks.domain.protocols.records import ProgressRow


@dataclass(frozen=True, slots=True)
class ShardView:
    """What is known of the run of a shard."""

    run: RunInfo | None = None  # None: it has not begun
    outcomes: tuple[Outcome, ...] = ()  # those that were not known before
    progress: tuple[ProgressRow, ...] = ()  # what its machines do now, or did last, of those that it has begun
    silent_since: datetime | None = None  # since when no process holds its lease, while it is not over; None: one does
    end: str = ""  # how its flow run ended; "" while it waits, starts or runs, and when the run is over in the records


class ShardRuns(Protocol):
    """The runs of shards. Each method raises PatchError or RecordsError if Prefect or the records don't answer now."""

    def is_served(self, site: str) -> bool:
        """Return whether Prefect has a deployment whose runs this site executes."""
        ...

    def start(self, run_id: str, site: str, name: str, request: Mapping[str, object]) -> str:
        """Start the run of a shard at its site, and return the id of its flow run. A repeated call starts nothing.

        Args:
            run_id: the id that the run will have.
            site: whose process executes it.
            name: of its flow run.
            request: its request, as JSON.

        Raises:
            RequestError: Prefect refuses it, or the site has no deployment.
        """
        ...

    def look(self, run_id: str, flow_run_id: str, known: Collection[str]) -> ShardView:
        """Return what is known of a run now, without the outcomes of these machines."""
        ...

    def has_begun(self, run_id: str) -> bool:
        """Return whether a run is in the records."""
        ...

    def read_report(self, run_id: str) -> RunReport:
        """Return the report of a run. What its machines shall get must have its seal."""
        ...

    def find_touched(self, run_id: str) -> frozenset[str]:
        """Return the machines for which the hooks of a run have run."""
        ...

    def request_stop(self, run_id: str, reason: str) -> None:
        """Ask a run to begin nothing more. The first request counts."""
        ...

    def cancel(self, flow_run_id: str, reason: str) -> None:
        """Cancel the flow run of a run that changes nothing. One that is over stays as it is."""
        ...
