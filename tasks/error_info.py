"""An error as records and reports keep it."""

from dataclasses import dataclass
from typing import Self

from inventory.errors import FleetpatchError


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as it is kept in records: its kind (the name of its class), its text and what a person can do."""

    kind: str
    message: str
    hint: str = ""
    transient: bool = False

    @classmethod
    def from_error(cls, error: FleetpatchError) -> Self:
        """Return an error as it is kept."""
        return cls(type(error).__name__, error.message, error.hint, error.transient)

    def is_a(self, *kinds: type[FleetpatchError]) -> bool:
        """Whether it was an error of one of these classes, or of a class below them."""
        names = {kind.__name__ for kind in kinds}
        return self.kind in names or any(self.is_a(*kind.__subclasses__()) for kind in kinds if kind.__subclasses__())
