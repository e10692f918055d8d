"""What all open connections to machines have in common."""

from typing import Protocol


class Channel(Protocol):
    """An open connection to a machine."""

    @property
    def is_open(self) -> bool:
        """Whether another exchange may be tried."""

    def close(self) -> None:
        """Close the connection."""
