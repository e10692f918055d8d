"""Evaluates values of Ansible variables as far as this is possible without Ansible.

Ansible gives values a type: YAML 1.1 has octal and sexagesimal numbers and words for booleans, and the INI reader
evaluates values as Python literals. If Ansible would change the text of a connection variable, the value is rejected.
"""

import ast
import re
import warnings

import yaml

from inventory.errors import PASSWORD_FORMS
from inventory.files.located_yaml import VAULTED, TypedScalar
from inventory.files.problems import LocatedData

_HOST_NAME_TEMPLATE = re.compile(r"\{\{-?\s*inventory_hostname\s*-?\}\}")
_ENV_LOOKUP_TEMPLATE = re.compile(
    r"\{\{-?\s*(?:lookup|query)\(\s*(['\"])(?:ansible\.builtin\.)?env\1\s*,\s*(['\"])(\w+)\2\s*\)\s*-?\}\}"
)
_TEMPLATE_PATTERN = re.compile(r"\{\{|\{%|\{#")
_LITERAL_START_PATTERN = re.compile(r"[\"'0-9.+({\[-]|[bBrRuU]{1,2}[\"']|(?:None|True|False)\b|set\(")
_NON_LITERAL_PATTERN = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[1-9][0-9]{0,4}")
"""IPv4 addresses and ports. They are frequent, and their text never changes; so they need no evaluation."""
_JSON_NUMBER_PATTERN = re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]+")
_MAX_VALUE_LENGTH = 10_000
"""Maximum number of characters in a value. A value may contain the machine's name many times."""
_INTEGER_PATTERN = re.compile(r"[+-]?[0-9]{1,9}")


class IniValue(str):
    """A value of an INI inventory as written."""

    __slots__ = ()


class UnreadableValue(ValueError):
    """A value that only Ansible can evaluate.

    Attributes:
        hint: what to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _UnsafeLiteral(ValueError):
    """A literal is too long, too deep, or has an invalid key."""


def resolve_value(value: LocatedData, host: str, variable: str) -> object:
    """Return a value with ``{{ inventory_hostname }}`` filled in, in maps and lists as well.

    Raises:
        UnreadableValue: the value is encrypted, contains another template, or is an ``ansible_`` variable that is not
            text.
    """
    return _fill_in_host_name(_convert_scalar(value.data, variable), host, variable)


def parse_secret_reference(value: LocatedData, variable: str, replacement_variable: str) -> str | None:
    """Return the credential reference of a password variable: ``{{ lookup('env', 'X') }}`` becomes ``env:X``.

    Raises:
        UnreadableValue: the value has another form. The message does not repeat it.
    """
    if value.data is None or (isinstance(value.data, IniValue) and value.data == "None"):
        return None
    if value.data is VAULTED:
        raise UnreadableValue(
            f"{variable} is vaulted, and fleetpatch reads no vaults", _build_secret_hint(replacement_variable)
        )
    text = value.data.strip().strip("\"'") if isinstance(value.data, str) else ""
    match = _ENV_LOOKUP_TEMPLATE.fullmatch(text)
    if match is None:
        fault = "is a template that fleetpatch does not evaluate" if "{{" in text else "holds a password"
        raise UnreadableValue(f"{variable} {fault}", _build_secret_hint(replacement_variable))
    return f"env:{match[3]}"


def parse_structure(value: object, variable: str) -> object:
    """Return the map or list of a text in an INI inventory. ``a=1,b=2`` is a map.

    Raises:
        UnreadableValue: the text begins like a map or list but is invalid.
    """
    if not isinstance(value, str) or not value.strip():
        return value
    if value.lstrip()[0] in "{[":
        try:
            return _to_texts(_evaluate_literal(value.strip()))
        except (ValueError, SyntaxError) as error:
            hint = "Write it as Python has it, quoted as a whole: \"{'ring': 'canary'}\"."
            raise UnreadableValue(f"{variable} is no map or list", hint) from error
    if "=" in value:
        pairs = (part.partition("=") for part in value.split(",") if part.strip())
        return {key.strip(): text.strip() for key, _, text in pairs}
    return value


def parse_priority(value: LocatedData) -> int:
    """Return the priority of a group. Raise UnreadableValue if the value is not a whole number in its usual form."""
    text = resolve_value(value, "", "ansible_group_priority")
    if isinstance(text, str) and text.isascii() and _INTEGER_PATTERN.fullmatch(text):
        return int(text)
    raise UnreadableValue("ansible_group_priority is no whole number", "Give a whole number, such as 10.")


def _convert_scalar(data: object, variable: str) -> object:
    """Return the text that Ansible makes from a scalar, or None."""
    if not isinstance(data, (IniValue, TypedScalar)):
        if isinstance(data, str) and variable.startswith("ansible_") and _JSON_NUMBER_PATTERN.fullmatch(data):
            raise _build_misread_error(variable, "a number")
        return data
    read = _parse_ini_value(data, variable) if isinstance(data, IniValue) else _construct_yaml_scalar(data)
    if read is None or isinstance(read, str):
        return read
    is_own_variable = variable.startswith(
        "fleetpatch_"
    )  # there the schema decides what is a number, and words stay words
    if isinstance(read, (dict, list, tuple, set)):
        if is_own_variable:
            return str(data)
        raise _build_misread_error(variable, "a map or a list")
    text = data.partition("#")[0].strip() if isinstance(data, IniValue) else str(data)
    if not is_own_variable and _render_value(read) != text:
        raise _build_misread_error(variable, _render_value(read))
    return text


def _parse_ini_value(data: str, variable: str) -> object:
    text = data.lstrip(" \t")
    if not _LITERAL_START_PATTERN.match(text) or _NON_LITERAL_PATTERN.fullmatch(text):
        return str(data)
    try:
        read = _evaluate_literal(text)
    except _UnsafeLiteral as error:
        raise _build_misread_error(variable, "something else, or not at all") from error
    except (ValueError, SyntaxError):
        return str(data)
    if read is ...:
        return "..."
    return read.decode("utf-8", "replace") if isinstance(read, bytes) else read


def _evaluate_literal(text: str) -> object:
    """Evaluate a Python literal.

    Raises:
        ValueError, SyntaxError: the text is not a literal. _UnsafeLiteral: the literal is too complex.
    """
    if len(text) > _MAX_VALUE_LENGTH:
        raise _UnsafeLiteral("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read: object = ast.literal_eval(text)
    except (MemoryError, RecursionError, TypeError) as error:
        raise _UnsafeLiteral("too deep, or a key that no map can have") from error
    return read


def _construct_yaml_scalar(data: TypedScalar) -> object:
    node = yaml.ScalarNode(data.tag, str(data))
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, yaml.YAMLError, LookupError, AttributeError, OverflowError):
        return ...


def _render_value(read: object) -> str:
    try:
        return "a value that it can't take" if read is ... else str(read)[:100]
    except ValueError:  # a number with thousands of digits
        return "a number"


def _build_misread_error(variable: str, read: str) -> UnreadableValue:
    hint = "Write numbers in base 10 without leading zeros. Quote a text: 'text' in YAML, \"'text'\" in INI."
    return UnreadableValue(f"{variable} is not what it looks like: Ansible reads it as {read}", hint)


def _fill_in_host_name(data: object, host: str, variable: str) -> object:
    if data is VAULTED:
        hint = f"Write the value here in plain text; a secret is given as {PASSWORD_FORMS}."
        raise UnreadableValue(f"{variable} is vaulted, and fleetpatch reads no vaults", hint)
    if isinstance(data, dict):
        return {str(key): _fill_in_host_name(element, host, variable) for key, element in data.items()}
    if isinstance(data, list):
        return [_fill_in_host_name(element, host, variable) for element in data]
    if not isinstance(data, str):
        return data
    text = _HOST_NAME_TEMPLATE.sub(lambda _: host, str(data))
    if _TEMPLATE_PATTERN.search(text):
        hint = "Write the value itself, or let Ansible do it: ansible-inventory -i FILE --list --yaml > hosts.yml"
        raise UnreadableValue(f"{variable} is a template that fleetpatch does not evaluate", hint)
    return text


def _to_texts(data: object) -> object:
    if isinstance(data, dict):
        return {str(key): _to_texts(element) for key, element in data.items()}
    if isinstance(data, (list, tuple)):
        return [_to_texts(element) for element in data]
    return None if data is None else str(data)


def _build_secret_hint(replacement_variable: str) -> str:
    return f"Write {{{{ lookup('env', 'NAME') }}}}, or set {replacement_variable} to {PASSWORD_FORMS}."
