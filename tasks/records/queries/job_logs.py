"""What a run's jobs printed, by machine, read when it is asked for: all of it together may be gigabytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tasks.errors import RecordsError
from tasks.model import JobOutput


class JobLogs(Mapping[str, str]):
    """Machines that had a job in a run, with its output.

    An output that can't be read any more says so itself: a report is worth writing without it. Call
    ``require_readable`` then.

    Args:
        names: the machines.
        read: reads a machine's outputs; raises RecordsError.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Sequence[JobOutput]]) -> None:
        self._names = dict.fromkeys(names)
        self._read = read
        self._error: RecordsError | None = None

    def require_readable(self) -> None:
        """Complain of an output that was asked for and could not be read.

        Raises:
            RecordsError: the first such fault.
        """
        if self._error is not None:
            raise self._error

    def __getitem__(self, machine: str) -> str:
        """Read a machine's output."""
        if machine not in self._names:
            raise KeyError(machine)
        try:
            return "\n".join(part.text for part in self._read(machine))
        except RecordsError as error:
            self._error = self._error or error
            return f"[fleetpatch cannot read this output: {error.message}]"

    def __contains__(self, machine: object) -> bool:
        """Whether it had a job. Reads nothing."""
        return machine in self._names

    def __iter__(self) -> Iterator[str]:
        """Give the machines' names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of machines."""
        return len(self._names)
