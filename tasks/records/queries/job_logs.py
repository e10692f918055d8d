"""Reads the output of a run's jobs, one machine at a time: all outputs together may be gigabytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tasks.errors import RecordsError
from tasks.model import JobOutput


class JobLogs(Mapping[str, str]):
    """A mapping from each machine with a job in a run to its job output. An output is read on access.

    If an output cannot be read, its value is a line that says so, so that a report can be written without it.
    ``require_readable`` raises that error later.

    Args:
        names: the machines' names.
        read: a function that reads a machine's outputs. It raises RecordsError.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Sequence[JobOutput]]) -> None:
        self._names = dict.fromkeys(names)
        self._read = read
        self._error: RecordsError | None = None

    def require_readable(self) -> None:
        """Raise an error if an accessed output could not be read.

        Raises:
            RecordsError: the first error of a read.
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
        """Return whether the machine had a job. Reads no output."""
        return machine in self._names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the machines' names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of machines."""
        return len(self._names)
