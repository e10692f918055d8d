"""The decorator of frozen data classes with slots: the standard library's, in less than half of its time.

That of Python 3.11 compiles six functions for each class. A command has hundreds of such classes: that took a sixth of
the processor time that it needs to begin. Here only ``__init__`` is compiled, and the others are made of the fields'
names. They do the same. A class of another kind is left to the standard library.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, MISSING, Field, FrozenInstanceError, InitVar
from functools import partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that type checkers know it
    from dataclasses import dataclass as dataclass  # noqa: PLC0414, TID251 - it is exported
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:  # noqa: ANN401 - a class, or a decorator
        """Decorate a class, or return a decorator, as ``dataclasses.dataclass`` does."""
        if cls is None:
            return partial(_decorate, options)
        return _decorate(options, cls)


_STANDARD = dataclasses.dataclass  # noqa: TID251 - this module replaces it
_KNOWN_OPTIONS = frozenset({"frozen", "slots", "kw_only"})
_NOT_PLAIN = frozenset({"__setattr__", "__delattr__", "__getstate__", "__setstate__"})


def _decorate(options: Mapping[str, bool], cls: type) -> type:
    return _make_frozen(cls, options) if _is_plain(cls, options) else _STANDARD(**options)(cls)


def _is_plain(cls: type, options: Mapping[str, bool]) -> bool:
    """Return whether a class has nothing that only the standard library's decorator knows."""
    own = vars(cls)
    return bool(
        options.get("frozen")
        and options.get("slots")
        and options.keys() <= _KNOWN_OPTIONS
        and not _NOT_PLAIN & own.keys()
        and not any(isinstance(value, Field) and not value.init for value in own.values())
        and not any(map(_is_for_the_decorator, cls.__annotations__.values()))
        and not any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:])
    )


def _is_for_the_decorator(hint: object) -> bool:
    if isinstance(hint, str):
        return "InitVar" in hint or "KW_ONLY" in hint
    return hint is KW_ONLY or isinstance(hint, InitVar)


def _make_frozen(cls: type, options: Mapping[str, bool]) -> type:
    if cls.__doc__ is None:  # else the signature is asked for, which takes long
        cls.__doc__ = cls.__name__
    made: Any = _STANDARD(**{**options, "frozen": False}, init=False, repr=False, eq=False)(cls)
    parameters = made.__dataclass_params__
    parameters.init = parameters.repr = parameters.eq = parameters.frozen = True
    for function in (_compile_init(made), *_build_comparison(made), *_build_state_functions(made)):
        if vars(made).get(function.__name__) is None:  # a class may have one of its own; a __hash__ of None is none
            function.__qualname__ = f"{made.__qualname__}.{function.__name__}"
            setattr(made, function.__name__, function)
    return made  # type: ignore[no-any-return]  # made by a decorator that we know


def _compile_init(cls: Any) -> Callable[..., None]:  # noqa: ANN401 - a data class
    positional: list[str] = []
    keywords: list[str] = []
    lines: list[str] = []
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        name, value, default = field.name, field.name, f"DEFAULT_{field.name}"
        parameter = name
        if field.default is not MISSING:
            defaults[default], parameter = field.default, f"{name}={default}"
        elif field.default_factory is not MISSING:
            defaults[default], parameter = field.default_factory, f"{name}=MISSING"
            value = f"{default}() if {name} is MISSING else {name}"
        (keywords if field.kw_only else positional).append(parameter)
        lines.append(f"  PUT(SELF, {name!r}, {value})\n")
    if hasattr(cls, "__post_init__"):
        lines.append("  SELF.__post_init__()\n")
    signature = ", ".join(["SELF", *positional, *(["*", *keywords] if keywords else [])])
    text = (
        f"def build(PUT, MISSING, {', '.join(defaults)}):\n def __init__({signature}):\n{''.join(lines) or '  pass'}\n"
    )
    namespace: dict[str, Any] = {}
    exec(f"{text} return __init__", sys.modules[cls.__module__].__dict__, namespace)  # noqa: S102 - names of fields
    init: Callable[..., None] = namespace["build"](object.__setattr__, MISSING, **defaults)
    init.__annotations__ = {field.name: field.type for field in dataclasses.fields(cls)} | {"return": None}
    return init


def _build_comparison(cls: Any) -> tuple[Callable[..., Any], ...]:  # noqa: ANN401 - the same
    fields = dataclasses.fields(cls)
    get_compared = _build_getter([field.name for field in fields if field.compare])
    get_hashed = _build_getter([f.name for f in fields if (f.compare if f.hash is None else f.hash)])
    shown = [field.name for field in fields if field.repr]

    def __eq__(self: Any, other: Any) -> Any:  # noqa: ANN401, N807
        return get_compared(self) == get_compared(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: ANN401, N807
        return hash(get_hashed(self))

    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: ANN401, N807
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    return __eq__, __hash__, __repr__


def _build_getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function for the values of some attributes, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda item: tuple(getattr(item, name) for name in names)


def _build_state_functions(cls: Any) -> tuple[Callable[..., Any], ...]:  # noqa: ANN401 - the same
    names = [field.name for field in dataclasses.fields(cls)]

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: ANN401, N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: ANN401, N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    def __getstate__(self: Any) -> list[Any]:  # noqa: ANN401, N807
        return [getattr(self, name) for name in names]

    def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: ANN401, N807
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return __setattr__, __delattr__, __getstate__, __setstate__
