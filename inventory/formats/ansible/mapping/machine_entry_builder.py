"""Collects the keys of a machine from the variables of an Ansible host."""

from collections.abc import Callable, Sequence

from inventory.files.problems import KeyPath, ProblemCollector, SourceLocation
from inventory.formats.ansible.inventory_tree import Variables
from inventory.formats.ansible.variable_values import UnreadableValue, parse_secret_reference, resolve_value


class MachineEntryBuilder:
    """The variables of one host, and the keys that are set from them."""

    def __init__(self, name: str, place: SourceLocation, variables: Variables, problems: ProblemCollector) -> None:
        self.name = name
        self.variables = variables
        self.data: dict[str, object] = {}
        self.locations: dict[KeyPath, SourceLocation] = {(): place}
        self._problems = problems

    def set_key(self, key: str, value: object, place: SourceLocation) -> None:
        """Set a key and its place."""
        self.data[key] = value
        self.locations[key,] = place

    def read_value(self, variable: str) -> object:
        """Return the value of a variable; None if it is not set or unreadable. An unreadable value is reported."""
        if variable not in self.variables:
            return None
        try:
            value = resolve_value(self.variables[variable], self.name, variable)
            if variable.startswith("ansible_") and not isinstance(value, str | None):
                raise UnreadableValue(f"{variable} is no text", "Write a text or a number.")
        except UnreadableValue as error:
            self._problems.add(self.variables[variable].locate(), str(error), error.hint)
            return None
        return value

    def read_text(self, variable: str) -> str | None:
        """Return the text of a variable, or None."""
        value = self.read_value(variable)
        return value if isinstance(value, str) else None

    def find_last_variable(self, variables: Sequence[str]) -> str | None:
        """Return the last of these variables that has a value. Ansible uses that one."""
        return next((variable for variable in reversed(variables) if self.read_value(variable) is not None), None)

    def set_from_last_variable(self, variables: Sequence[str], key: str, convert: Callable[[object], object]) -> None:
        """Set a key from the last of these variables that has a value."""
        variable = self.find_last_variable(variables)
        if variable is not None:
            location = self.variables[variable].locate()
            try:
                self.set_key(key, convert(self.read_value(variable)), location)
            except UnreadableValue as error:
                self._problems.add(location, str(error), error.hint)

    def set_secret_reference(self, variables: Sequence[str], key: str, replacement_variable: str) -> None:
        """Set a key to the credential reference of the last password variable that has a value."""
        for variable in variables:
            if variable in self.variables:
                location = self.variables[variable].locate()
                try:
                    reference = parse_secret_reference(self.variables[variable], variable, replacement_variable)
                except UnreadableValue as error:
                    self._problems.add(location, str(error), error.hint)
                else:
                    if reference is not None:
                        self.set_key(key, reference, location)

    def set_choice(self, variable: str, key: str, value: str | None, given: str, hint: str) -> None:
        """Set a key to a known choice. Report an unknown one."""
        location = self.variables[variable].locate()
        if value is None:
            self._problems.add(location, f"{variable} is {given[:80]!r}, which fleetpatch does not know", hint)
        else:
            self.set_key(key, value, location)

    def set_tag(self, name: str, variable: str, place: SourceLocation) -> None:
        """Set one tag."""
        text = self.read_text(variable)
        if text is not None:
            tags = self.data.get("tags")
            self.set_key("tags", {**(tags if isinstance(tags, dict) else {}), name: text}, place)
