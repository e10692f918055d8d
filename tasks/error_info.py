"""An error as the records and reports store it."""

from dataclasses import dataclass
from typing import Self

from inventory.errors import FleetpatchError


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as the records store it: its class name (``kind``), its text and a hint for the user."""

    kind: str
    message: str
    hint: str = ""
    transient: bool = False

    @classmethod
    def from_error(cls, error: FleetpatchError) -> Self:
        """Return the ErrorInfo of an error."""
        return cls(type(error).__name__, error.message, error.hint, error.transient)

    def is_a(self, *kinds: type[FleetpatchError]) -> bool:
        """Return whether the error is of one of these classes or of a subclass."""
        names = {kind.__name__ for kind in kinds}
        return self.kind in names or any(self.is_a(*kind.__subclasses__()) for kind in kinds if kind.__subclasses__())
