"""A machine's keys while they are gathered from the variables of an Ansible host."""

from collections.abc import Callable, Sequence

from inventory.ansible.tree import Variables
from inventory.ansible.values import Unreadable, plain, secret
from inventory.places import KeyPath, Place, Problems


class HostValues:
    """The variables of one host, and the keys that became of them."""

    def __init__(self, name: str, place: Place, variables: Variables, problems: Problems) -> None:
        self.name = name
        self.variables = variables
        self.data: dict[str, object] = {}
        self.places: dict[KeyPath, Place] = {(): place}
        self._problems = problems

    def set(self, key: str, value: object, place: Place) -> None:
        """Set a key, and say where it comes from."""
        self.data[key] = value
        self.places[key,] = place

    def value(self, variable: str) -> object:
        """Return a variable's value; None when there is none, or it was noted as unreadable."""
        if variable not in self.variables:
            return None
        try:
            value = plain(self.variables[variable], self.name, variable)
            if variable.startswith("ansible_") and not isinstance(value, str | None):
                raise Unreadable(f"{variable} is no text", "Write a text or a number.")
        except Unreadable as error:
            self._problems.add(self.variables[variable].at(), str(error), error.hint)
            return None
        return value

    def text(self, variable: str) -> str | None:
        """Return a variable's text; None when there is none."""
        value = self.value(variable)
        return value if isinstance(value, str) else None

    def last(self, variables: Sequence[str]) -> str | None:
        """Return the last of some variables that has a value: for Ansible, that one counts."""
        return next((variable for variable in reversed(variables) if self.value(variable) is not None), None)

    def take_last(self, variables: Sequence[str], key: str, convert: Callable[[object], object]) -> None:
        """Set a key from the last of some variables that has a value."""
        variable = self.last(variables)
        if variable is not None:
            place = self.variables[variable].at()
            try:
                self.set(key, convert(self.value(variable)), place)
            except Unreadable as error:
                self._problems.add(place, str(error), error.hint)

    def take_secret(self, variables: Sequence[str], key: str, instead: str) -> None:
        """Set a key to the reference that the last of some password variables stands for."""
        for variable in variables:
            if variable in self.variables:
                place = self.variables[variable].at()
                try:
                    reference = secret(self.variables[variable], variable, instead)
                except Unreadable as error:
                    self._problems.add(place, str(error), error.hint)
                else:
                    if reference is not None:
                        self.set(key, reference, place)

    def choose(self, variable: str, key: str, value: str | None, given: str, hint: str) -> None:
        """Set a key to one of the words that are known; note a word that isn't."""
        place = self.variables[variable].at()
        if value is None:
            self._problems.add(place, f"{variable} is {given[:80]!r}, which fleetpatch does not know", hint)
        else:
            self.set(key, value, place)

    def tag(self, name: str, variable: str, place: Place) -> None:
        """Set one tag."""
        text = self.text(variable)
        if text is not None:
            known = self.data.get("tags")
            self.set("tags", {**(known if isinstance(known, dict) else {}), name: text}, place)
