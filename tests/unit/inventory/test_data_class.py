"""Our decorator of frozen data classes makes what the standard library's makes."""

import copy
import dataclasses
import inspect
import math
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, InitVar, field, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from inventory import data_class

T = TypeVar("T")
Decorator = Callable[..., Callable[[type], type]]


def declare_plain(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Plain:
        """One of each kind of field."""

        name: str
        number: float = 1.5
        words: tuple[str, ...] = ()
        table: Mapping[str, int] = field(default_factory=dict)
        secret: str = field(default="", repr=False)
        seal: str = field(default="", compare=False)
        label: str = field(default="", hash=False)
        KIND: ClassVar[str] = "plain"

        def shout(self) -> str:
            return self.name.upper()

    return Plain


def declare_single(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Single:
        value: float

    return Single


def declare_empty(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Empty:
        """No field."""

    return Empty


def declare_keywords(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Keywords:
        value: int = 0
        other: int

    return Keywords


def declare_keyword_fields(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class KeywordFields:
        value: int
        other: int = field(default=2, kw_only=True)
        last: int = 3

    return KeywordFields


def declare_own_functions(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Own:  # noqa: PLW1641 - both decorators make its hash
        value: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

        def __repr__(self) -> str:
            return "mine"

    return Own


def declare_generic(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Holder(Generic[T]):
        value: T

    return Holder


def declare_converted(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Converted:
        value: str

        def __post_init__(self) -> None:
            object.__setattr__(self, "value", self.value.upper())

    return Converted


def declare_child(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Child(declare_single(dataclass)):  # type: ignore[misc]
        more: int = 2

    return Child


def declare_checked(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Checked:
        value: int
        start: InitVar[int] = 0
        total: int = field(init=False, default=0)

        def __post_init__(self, start: int) -> None:
            object.__setattr__(self, "total", self.value + start)

    return Checked


def declare_started(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Started:
        value: int
        start: "InitVar[int]" = 0

        def __post_init__(self, start: int) -> None:
            object.__setattr__(self, "value", self.value + start)

    return Started


def declare_keywords_behind(dataclass: Decorator) -> type:
    @dataclass(frozen=True, slots=True)
    class Behind:
        value: int
        _: KW_ONLY
        other: int = 1

    return Behind


DECLARED: dict[Any, list[Any]] = {
    declare_plain: [("a",), ("a", 2.5, ("x",), {"y": 1}, "s", "t", "l"), ("a", math.nan), ("b",)],
    declare_single: [(1.0,), (math.nan,), (2.0,)],
    declare_empty: [()],
    declare_keyword_fields: [(1,), (1, 4)],
    declare_own_functions: [(1,), (2,)],
    declare_generic: [(1,), ([],)],
    declare_converted: [("a",), ("b",)],
    declare_child: [(1.0,), (1.0, 3)],
    declare_checked: [(1,), (1, 5)],
    declare_started: [(1,), (1, 5)],
    declare_keywords_behind: [(1,)],
}
kinds = pytest.mark.parametrize("declare", DECLARED, ids=lambda declare: declare.__name__.removeprefix("declare_"))


def _ours(declare: Any) -> Any:
    return declare(data_class.dataclass)


def _standard(declare: Any) -> Any:
    return declare(dataclasses.dataclass)


@kinds
def test_its_face_is_the_same(declare: Any) -> None:
    ours, standard = _ours(declare), _standard(declare)
    assert [*map(repr, fields(ours))] == [*map(repr, fields(standard))]
    assert [*inspect.signature(ours).parameters] == [*inspect.signature(standard).parameters]
    assert [p.kind for p in inspect.signature(ours).parameters.values()] == [
        p.kind for p in inspect.signature(standard).parameters.values()
    ]
    assert ours.__match_args__ == standard.__match_args__
    assert ours.__slots__ == standard.__slots__
    assert ours.__qualname__ == standard.__qualname__
    assert ours.__init__.__qualname__ == standard.__init__.__qualname__
    assert repr(ours.__dataclass_params__) == repr(standard.__dataclass_params__)
    assert sorted(map(str, ours.__init__.__annotations__.items())) == sorted(
        map(str, standard.__init__.__annotations__.items())
    )


@kinds
def test_its_objects_do_the_same(declare: Any) -> None:
    ours, standard = _ours(declare), _standard(declare)
    pairs = [(ours(*values), standard(*values)) for values in DECLARED[declare]]
    for mine, its in pairs:
        assert repr(mine) == repr(its)
        assert _hash(mine) == _hash(its)
        assert not mine == its  # noqa: SIM201 - another class, and __eq__ is asked
        assert not hasattr(mine, "__dict__")
        assert mine == copy.copy(mine)
        assert repr(copy.deepcopy(mine)) == repr(its)
        for mine_too, its_too in pairs:
            assert (mine == mine_too) == (its == its_too)
            assert (mine != mine_too) == (its != its_too)


def _hash(item: object) -> int | str:
    try:
        return hash(item)
    except TypeError as error:
        return str(error)


@kinds
def test_it_can_not_be_changed(declare: Any) -> None:
    ours, standard = _ours(declare), _standard(declare)
    values = DECLARED[declare][0]
    for name in [f.name for f in fields(ours)]:
        told = []
        for item in (ours(*values), standard(*values)):
            for change in (lambda item, name: setattr(item, name, 1), delattr):
                with pytest.raises(dataclasses.FrozenInstanceError) as caught:
                    change(item, name)
                told.append(str(caught.value))
        assert told[:2] == told[2:]
    with pytest.raises((AttributeError, TypeError)):
        ours(*values).invented = 1


@kinds
def test_wrong_arguments_are_refused(declare: Any) -> None:
    told = []
    for made in (_ours(declare), _standard(declare)):
        with pytest.raises(TypeError) as caught:
            made(invented=1)
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_keywords_only() -> None:
    ours, standard = _ours(declare_keywords), _standard(declare_keywords)
    assert repr(ours(other=1)) == repr(standard(other=1))
    with pytest.raises(TypeError):
        ours(0, 1)
    with pytest.raises(TypeError):
        ours(value=1)


def test_each_object_has_a_default_of_its_own() -> None:
    plain = _ours(declare_plain)
    assert plain("a").table is not plain("b").table
    assert plain("a") == replace(plain("b"), name="a")
    assert plain.KIND == "plain"
    assert plain("a").shout() == "A"
    with pytest.raises(ValueError, match="mutable default"):
        data_class.dataclass(frozen=True, slots=True)(type("X", (), {"__annotations__": {"x": list}, "x": []}))


def test_other_kinds_are_the_standard_librarys() -> None:
    @data_class.dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        value: int

    @data_class.dataclass(slots=True)
    class Open:
        value: int

    @data_class.dataclass
    class Bare:
        value: int = 1

    assert Bare() == Bare(1)
    opened = Open(1)
    opened.value = 2
    assert Ordered(1) < Ordered(2)
    assert opened == Open(2)


@data_class.dataclass(frozen=True, slots=True)
class Pickled:
    name: str
    again: "Pickled | None" = None


def test_pickle_and_hints_know_the_module() -> None:
    item = Pickled("a", Pickled("b"))
    assert pickle.loads(pickle.dumps(item)) == item
    assert Pickled.__init__.__module__ == __name__
    assert Pickled.__init__.__globals__ is vars(sys.modules[__name__])


def test_one_function_is_compiled_for_a_class() -> None:
    calls: list[Any] = []
    sys.setprofile(lambda _frame, event, called: calls.append(called) if event == "c_call" else None)
    try:
        declare_plain(data_class.dataclass)
    finally:
        sys.setprofile(None)
    assert calls.count(exec) == 1
