"""Values of Ansible's variables, as far as they can be told without running Ansible."""

import ast
import re

from inventory.places import Located
from inventory.yaml_tree import VAULTED

_NAME = re.compile(r"\{\{-?\s*inventory_hostname\s*-?\}\}")
_ENV = re.compile(
    r"\{\{-?\s*(?:lookup|query)\(\s*(['\"])(?:ansible\.builtin\.)?env\1\s*,\s*(['\"])(\w+)\2\s*\)\s*-?\}\}"
)


class Unreadable(ValueError):
    """A value that only Ansible could tell; carries a remedy.

    Attributes:
        hint: what to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def plain(value: Located, host: str, variable: str) -> object:
    """Return a value with ``{{ inventory_hostname }}`` filled in, in maps and lists as well.

    Raises:
        Unreadable: it is vaulted, or holds another template.
    """
    return _plain(value.data, host, variable)


def secret(value: Located, variable: str, instead: str) -> str:
    """Return the reference that a password variable stands for: ``{{ lookup('env', 'X') }}`` is ``env:X``.

    Raises:
        Unreadable: it is anything else. The message does not repeat it.
    """
    if value.data is VAULTED:
        raise Unreadable(f"{variable} is vaulted, and fleetpatch reads no vaults", _secret_hint(instead))
    match = _ENV.fullmatch(value.data.strip()) if isinstance(value.data, str) else None
    if match is None:
        template = isinstance(value.data, str) and "{{" in value.data
        what = "is a template that fleetpatch does not evaluate" if template else "holds a password"
        raise Unreadable(f"{variable} {what}", _secret_hint(instead))
    return f"env:{match[3]}"


def structure(value: object, variable: str) -> object:
    """Return the map or list that a text in an INI inventory stands for; ``a=1,b=2`` is a map.

    Raises:
        Unreadable: it begins like one and is none.
    """
    if not isinstance(value, str) or not value.strip():
        return value
    if value.lstrip()[0] in "{[":
        try:
            return _texts(ast.literal_eval(value.strip()))
        except (ValueError, SyntaxError) as error:
            hint = "Write it as Python has it, quoted as a whole: \"{'ring': 'canary'}\"."
            raise Unreadable(f"{variable} is no map or list", hint) from error
    if "=" in value:
        pairs = (part.partition("=") for part in value.split(",") if part.strip())
        return {key.strip(): text.strip() for key, _, text in pairs}
    return value


def _plain(data: object, host: str, variable: str) -> object:
    if data is VAULTED:
        hint = "Write the value here in plain text; a secret is given as env:NAME, file:PATH or prefect:BLOCK."
        raise Unreadable(f"{variable} is vaulted, and fleetpatch reads no vaults", hint)
    if isinstance(data, dict):
        return {key: _plain(item, host, variable) for key, item in data.items()}
    if isinstance(data, list):
        return [_plain(item, host, variable) for item in data]
    if not isinstance(data, str):
        return data
    text = _NAME.sub(lambda _: host, data)
    if "{{" in text or "{%" in text:
        hint = "Write the value itself, or let Ansible do it: ansible-inventory -i FILE --list --yaml > hosts.yml"
        raise Unreadable(f"{variable} is a template that fleetpatch does not evaluate", hint)
    return text


def _texts(data: object) -> object:
    if isinstance(data, dict):
        return {str(key): _texts(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_texts(item) for item in data]
    return None if data is None else str(data)


def _secret_hint(instead: str) -> str:
    return f"Write {{{{ lookup('env', 'NAME') }}}}, or set {instead} to env:NAME, file:PATH or prefect:BLOCK."
