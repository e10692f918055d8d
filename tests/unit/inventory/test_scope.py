"""Dynamic scopes: what they select, that they say why they are empty, and that they are written as they are read."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import EmptyScopeError, InventoryError
from inventory.machine import Inventory, Machine, OsFamily, PatchOwner, TransportKind
from inventory.scope import Scope, ScopeTerm

FLEET = Inventory(
    (
        Machine("bastion", "bastion.example.org", environment="prod", owner=PatchOwner.MANUAL),
        Machine("web-1", "10.0.1.1", environment="prod", location="a", groups=("web",), tags={"ring": "canary"}),
        Machine(
            "web-2", "10.0.1.2", environment="prod", location="b", groups=("web",), tags={"ring": "broad", "os": "x"}
        ),
        Machine("web-9", "10.0.9.1", environment="test", groups=("web", "lab"), tags={"ring": "broad", "on call": "Z"}),
        Machine("db-1", "2001:db8::1", environment="prod", location="a", groups=("db",)),
        Machine(
            "win-1",
            "win.example.org",
            os=OsFamily.WINDOWS,
            transport=TransportKind.WINRM,
            tags={"ring": ""},
            zone="Europe/Berlin",
        ),
    )
)
NAMES = tuple(machine.name for machine in FLEET.machines)


def select(text: str) -> str:
    return " ".join(machine.name for machine in Scope.parse(text).select_machines(FLEET))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", " ".join(NAMES)),
        ("*", " ".join(NAMES)),
        ("name=web-1", "web-1"),
        ("name=web-*", "web-1 web-2 web-9"),
        ("name=web-[12]", "web-1 web-2"),
        ("web", "web-1 web-2 web-9"),
        ("web-?", "web-1 web-2 web-9"),
        ("db-1|web-1", "web-1 db-1"),
        ("db|bastion", "bastion db-1"),
        ("!web", "bastion db-1 win-1"),
        ("group=web", "web-1 web-2 web-9"),
        ("group=lab|db", "web-9 db-1"),
        ("!group=*", "bastion win-1"),
        ("env=prod", "bastion web-1 web-2 db-1"),
        ("environment=prod", "bastion web-1 web-2 db-1"),
        ("environment!=prod", "web-9 win-1"),
        ("env=*", "bastion web-1 web-2 web-9 db-1"),
        ("!env=*", "win-1"),
        ("os=windows", "win-1"),
        ("os=lin*", "bastion web-1 web-2 web-9 db-1"),
        ("transport=winrm", "win-1"),
        ("owner=manual|os", "bastion"),
        ("location=a", "web-1 db-1"),
        ("!location=*", "bastion web-9 win-1"),
        ("address=10.0.0.0/16", "web-1 web-2 web-9"),
        ("address=10.0.1.9/24", "web-1 web-2"),
        ("address=2001:db8::/32", "db-1"),
        ("address=*.example.org", "bastion win-1"),
        ("ring=canary", "web-1"),
        ("!ring=canary", "bastion web-2 web-9 db-1 win-1"),
        ("tag.ring=*", "web-1 web-2 web-9"),
        ("tag.os=x", "web-2"),
        ("env=prod,os=linux,!ring=canary,name=web-*", "web-2"),
        (" env = prod , ! ring = canary , web ", "web-2"),
        ("env=test or name=db-1|win-1", "web-9 db-1 win-1"),
        ("env=prod,web or env=prod,db  or  env=test", "web-1 web-2 web-9 db-1"),
        ("web or name=none", "web-1 web-2 web-9"),
        ("zone=Europe/*", "win-1"),
        ("!zone=UTC,os=windows or name=web-1,zone=UTC", "web-1 win-1"),
    ],
)
def test_selects(text: str, names: str) -> None:
    assert select(text) == names


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("", "the scope is empty", "Write `all`"),
        ("  ", "the scope is empty", "Write `all`"),
        ("env=prod,", "nothing between two commas", "Write one"),
        ("env=prod or ", "nothing on one side of `or`", "on each side"),
        (" or env=prod", "nothing on one side of `or`", "on each side"),
        (",", "nothing between two commas", "Write one"),
        ("!", "'!' lacks a value", "key=*"),
        ("env=", "'env=' lacks a value", "!key=* for those that have none"),
        ("env=a||b", "lacks a value", "key=*"),
        ("=prod", "no usable key", "Keys are name, env"),
        ("!=prod", "no usable key", "Keys are name"),
        ("tag.=x", "no usable key", "Keys are name"),
        ("my tag=x", "no usable key", "Keys are name"),
        ("e*=x", "no usable key", "Keys are name"),
        ("!env!=prod", "turned round twice", "not both"),
        ("env=!prod", "turns a value round", "!key=value"),
        ("env=prod|env=test", "'env=test' behind the | of 'env=prod|env=test' has a key again", "Write env=prod|test."),
        ("name=a|b|!env=test", "turns a value round", "!key=value"),
        ("ring=canary|tier=web", "'tier=web' behind the |", "Write ring=canary or tier=web."),
        ("os=linus", "'linus' is not one of linux, windows", "Did you mean 'linux'?"),
        ("owner=me", "'me' is not one of fleetpatch, managed, os, manual", "Write one of"),
        ("transport=telnet", "is not one of ssh, winrm, local", "Write one of"),
        ("address=10.0.0.0/33", "'10.0.0.0/33' is no network", "10.0.0.0/8"),
        ("address=web/8", "'web/8' is no network", "10.0.0.0/8"),
    ],
)
def test_refuses_what_makes_no_sense(text: str, message: str, remedy: str) -> None:
    with pytest.raises(InventoryError) as caught:
        Scope.parse(text)
    assert message in str(caught.value)
    assert remedy in caught.value.hint
    assert not isinstance(caught.value, EmptyScopeError)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("rnig=canary", "no machine has a tag 'rnig'", "Did you mean 'ring'?"),
        ("!rnig=canary", "no machine has a tag 'rnig'", "Did you mean 'ring'?"),
        ("nmae=web-1", "no machine has a tag 'nmae'", "Did you mean 'name'?"),
        ("env=prod or rnig=canary", "no machine has a tag 'rnig'", "Did you mean 'ring'?"),
        ("tag.role=x", "no machine has a tag 'role'", "tags here are on call, os, ring"),
    ],
)
def test_a_key_that_nobody_carries_is_a_typing_error(text: str, message: str, remedy: str) -> None:
    with pytest.raises(InventoryError) as caught:
        Scope.parse(text).select_machines(FLEET)
    assert message in str(caught.value)
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("text", "counted", "remedy"),
    [
        (
            "env=prd",
            "of 6 machines, env=prd matches 0, 0 left",
            "Did you mean 'prod'? In this inventory there is: prod",
        ),
        ("env=prod,ring=canari", "env=prod matches 4, 4 left; ring=canari matches 0, 0 left", "'canary'"),
        ("env=test,ring=canary", "env=test matches 1, 1 left; ring=canary matches 1, 0 left", "none matches all"),
        ("wbe or dbe", "wbe matches 0, 0 left; what stands after `or` matches none", "Did you mean 'web'?"),
        ("wbe", "wbe matches 0, 0 left", "Did you mean 'web'?"),
        ("!all", "!* matches 0, 0 left", "In this inventory there is"),
    ],
)
def test_says_which_term_left_nothing(text: str, counted: str, remedy: str) -> None:
    with pytest.raises(EmptyScopeError) as caught:
        Scope.parse(text).select_machines(FLEET)
    assert counted in str(caught.value)
    assert remedy in caught.value.hint


def test_an_empty_inventory_has_no_scope() -> None:
    with pytest.raises(EmptyScopeError, match="of 0 machines"):
        Scope.parse("all").select_machines(Inventory(()))


def test_warns_of_an_exclusion_that_excludes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        select("!ring=canari")
        select("!ring=canary")
    assert [record.message for record in caplog.records] == [
        "the term !ring=canari of the scope !ring=canari leaves nothing out"
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("env=prod|tset", "no machine matches 'tset' of env=prod|tset. Did you mean 'test'?"),
        ("!ring=canary|borad", "no machine matches 'borad' of !ring=canary|borad. Did you mean 'broad'?"),
        ("db or wbe", "in the scope db or wbe, no machine matches wbe"),
        ("wbe or db", "in the scope wbe or db, no machine matches wbe"),
        ("db or env=test,ring=canary", "no machine matches env=test,ring=canary"),
    ],
)
def test_warns_of_an_alternative_that_matches_nothing(
    caplog: pytest.LogCaptureFixture, text: str, warning: str
) -> None:
    with caplog.at_level(logging.WARNING):
        select(text)
        select("env=prod|test or name=web-*|db-1")
    assert len(caplog.records) == 1
    assert warning in caplog.records[0].message


def test_a_scope_without_terms_is_refused() -> None:
    with pytest.raises(InventoryError, match="at least one term"):
        Scope(())


MASKS = st.sampled_from(["web-*", "*", "prod", "canary", "a", "10.0.1.?", "linux", "web", "db", "x", "[wd]*"])
TERMS = st.builds(
    ScopeTerm,
    key=st.sampled_from(["", "name", "env", "group", "location", "address", "tag.ring", "tag.os", "tag.tag.x"]),
    values=st.lists(MASKS, min_size=1, max_size=3, unique=True).map(tuple),
    negated=st.booleans(),
)
PARTS = st.lists(TERMS, min_size=1, max_size=4).map(lambda terms: Scope(tuple(terms)))
SCOPES = st.builds(lambda first, others: Scope(first.terms, tuple(others)), PARTS, st.lists(PARTS, max_size=2))


@given(SCOPES)
def test_round_trip(scope: Scope) -> None:
    assert Scope.parse(str(scope)) == scope


@given(TERMS)
def test_a_term_and_its_negation_share_out_the_fleet(term: ScopeTerm) -> None:
    turned = ScopeTerm(term.key, term.values, not term.negated)
    inside = {machine.name for machine in FLEET.machines if Scope((term,)).matches(machine)}
    outside = {machine.name for machine in FLEET.machines if Scope((turned,)).matches(machine)}
    assert inside | outside == set(NAMES)
    assert not inside & outside


@given(PARTS, TERMS)
def test_another_term_never_adds_a_machine(scope: Scope, term: ScopeTerm) -> None:
    wide = {machine.name for machine in FLEET.machines if scope.matches(machine)}
    narrow = {machine.name for machine in FLEET.machines if Scope((*scope.terms, term)).matches(machine)}
    assert narrow <= wide


@given(PARTS)
def test_the_order_of_terms_does_not_matter(scope: Scope) -> None:
    turned = Scope(scope.terms[::-1])
    assert [scope.matches(machine) for machine in FLEET.machines] == [turned.matches(m) for m in FLEET.machines]


@given(st.text(alphabet="abz=!|,.*[/ \t-", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        scope = Scope.parse(text)
    except InventoryError as error:
        scope = None
        remedy = error.hint
        assert remedy
    assert scope is None or Scope.parse(str(scope)) == scope


@given(PARTS, PARTS)
def test_or_is_the_union(one: Scope, other: Scope) -> None:
    either = Scope.parse(f"{one} or {other}")
    assert [m.name for m in FLEET.machines if either.matches(m)] == [
        m.name for m in FLEET.machines if one.matches(m) or other.matches(m)
    ]
