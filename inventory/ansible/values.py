"""Values of Ansible's variables, as far as they can be told without running Ansible.

Ansible gives values a type: YAML 1.1 has numbers in base 8 and 60 and words that are truths, and its INI reader takes
values for Python's literals. A value that it would turn into another text than the one that stands there is refused
where it says how a machine is reached.
"""

import ast
import re
import warnings

import yaml

from inventory.places import Located
from inventory.yaml_tree import VAULTED, Typed

_NAME = re.compile(r"\{\{-?\s*inventory_hostname\s*-?\}\}")
_ENV = re.compile(
    r"\{\{-?\s*(?:lookup|query)\(\s*(['\"])(?:ansible\.builtin\.)?env\1\s*,\s*(['\"])(\w+)\2\s*\)\s*-?\}\}"
)
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_MAY_BE_LITERAL = re.compile(r"[\"'0-9.+({\[-]|[bBrRuU]{1,2}[\"']|(?:None|True|False)\b|set\(")
_NO_LITERAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[1-9][0-9]{0,4}")
"""IPv4 addresses and ports, of which there are many: none is read as another text."""
_JSON_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]+")
_LONGEST = 10_000
"""Characters of a value; the machine's name fits many times."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")


class IniText(str):
    """A value of an INI inventory as it stands there."""

    __slots__ = ()


class Unreadable(ValueError):
    """A value that only Ansible could tell; carries a remedy.

    Attributes:
        hint: what to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _Unwise(ValueError):
    """A literal that is too long, too deep, or has a key that no map can have."""


def plain(value: Located, host: str, variable: str) -> object:
    """Return a value with ``{{ inventory_hostname }}`` filled in, in maps and lists as well.

    Raises:
        Unreadable: it is vaulted, holds another template, or is an ``ansible_`` variable of another type than text.
    """
    return _plain(_typed(value.data, variable), host, variable)


def secret(value: Located, variable: str, instead: str) -> str | None:
    """Return the reference that a password variable stands for: ``{{ lookup('env', 'X') }}`` is ``env:X``.

    Raises:
        Unreadable: it is anything else. The message does not repeat it.
    """
    if value.data is None or (isinstance(value.data, IniText) and value.data == "None"):
        return None
    if value.data is VAULTED:
        raise Unreadable(f"{variable} is vaulted, and fleetpatch reads no vaults", _secret_hint(instead))
    text = value.data.strip().strip("\"'") if isinstance(value.data, str) else ""
    match = _ENV.fullmatch(text)
    if match is None:
        what = "is a template that fleetpatch does not evaluate" if "{{" in text else "holds a password"
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
            return _texts(_literal(value.strip()))
        except (ValueError, SyntaxError) as error:
            hint = "Write it as Python has it, quoted as a whole: \"{'ring': 'canary'}\"."
            raise Unreadable(f"{variable} is no map or list", hint) from error
    if "=" in value:
        pairs = (part.partition("=") for part in value.split(",") if part.strip())
        return {key.strip(): text.strip() for key, _, text in pairs}
    return value


def priority(value: Located) -> int:
    """Return the priority of a group.

    Raises:
        Unreadable: it is no whole number, or not written as one is.
    """
    text = plain(value, "", "ansible_group_priority")
    if isinstance(text, str) and text.isascii() and _WHOLE.fullmatch(text):
        return int(text)
    raise Unreadable("ansible_group_priority is no whole number", "Give a whole number, such as 10.")


def _typed(data: object, variable: str) -> object:
    """Return the text that Ansible makes of a scalar, or None."""
    if not isinstance(data, (IniText, Typed)):
        if isinstance(data, str) and variable.startswith("ansible_") and _JSON_NUMBER.fullmatch(data):
            raise _otherwise(variable, "a number")
        return data
    read = _ini(data, variable) if isinstance(data, IniText) else _yaml(data)
    if read is None or isinstance(read, str):
        return read
    ours = variable.startswith("fleetpatch_")  # the schema decides what is a number there: words are words
    if isinstance(read, (dict, list, tuple, set)):
        if ours:
            return str(data)
        raise _otherwise(variable, "a map or a list")
    text = data.partition("#")[0].strip() if isinstance(data, IniText) else str(data)
    if not ours and _shown(read) != text:
        raise _otherwise(variable, _shown(read))
    return text


def _ini(data: str, variable: str) -> object:
    text = data.lstrip(" \t")
    if not _MAY_BE_LITERAL.match(text) or _NO_LITERAL.fullmatch(text):
        return str(data)
    try:
        read = _literal(text)
    except _Unwise as error:
        raise _otherwise(variable, "something else, or not at all") from error
    except (ValueError, SyntaxError):
        return str(data)
    if read is ...:
        return "..."
    return read.decode("utf-8", "replace") if isinstance(read, bytes) else read


def _literal(text: str) -> object:
    """Evaluate one of Python's literals.

    Raises:
        ValueError, SyntaxError: it is none; _Unwise when no person wrote it.
    """
    if len(text) > _LONGEST:
        raise _Unwise("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read: object = ast.literal_eval(text)
    except (MemoryError, RecursionError, TypeError) as error:
        raise _Unwise("too deep, or a key that no map can have") from error
    return read


def _yaml(data: Typed) -> object:
    node = yaml.ScalarNode(data.tag, str(data))
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, yaml.YAMLError, LookupError, AttributeError, OverflowError):
        return ...


def _shown(read: object) -> str:
    try:
        return "a value that it can't take" if read is ... else str(read)[:100]
    except ValueError:  # thousands of digits
        return "a number"


def _otherwise(variable: str, read: str) -> Unreadable:
    hint = "Write numbers in base 10 without leading zeros. Quote a text: 'text' in YAML, \"'text'\" in INI."
    return Unreadable(f"{variable} is not what it looks like: Ansible reads it as {read}", hint)


def _plain(data: object, host: str, variable: str) -> object:
    if data is VAULTED:
        hint = "Write the value here in plain text; a secret is given as env:NAME, file:PATH or prefect:BLOCK."
        raise Unreadable(f"{variable} is vaulted, and fleetpatch reads no vaults", hint)
    if isinstance(data, dict):
        return {str(key): _plain(item, host, variable) for key, item in data.items()}
    if isinstance(data, list):
        return [_plain(item, host, variable) for item in data]
    if not isinstance(data, str):
        return data
    text = _NAME.sub(lambda _: host, str(data))
    if _TEMPLATE.search(text):
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
