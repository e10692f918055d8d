"""Machine sets in fleet.yaml: what they may say, whom they select, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Check, CheckKind, Inventory, MachineSet, RoleSource, SetAction, SetActionKind

MACHINES = """\
machines:
  - {name: db-1, tags: {cluster: db, role: primary, rack: a}}
  - {name: db-2, tags: {cluster: db, role: replica, rack: b}}
  - {name: db-3, tags: {cluster: db, role: replica 2, rack: b}}
  - {name: other, tags: {}}
"""


def load(tmp_path: Path, sets: str, machines: str = MACHINES) -> Inventory:
    path = tmp_path / "fleet.yaml"
    path.write_text(f"{machines}sets:\n{sets}", encoding="utf-8")
    return load_inventory(path)


def refuse(tmp_path: Path, sets: str, machines: str = MACHINES) -> list[str]:
    """Return the problems without the folder, each with its hint."""
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, sets, machines)
    return [f"{each} {each.hint}".replace(f"{tmp_path}/", "") for each in caught.value.problems]


def test_every_key(tmp_path: Path) -> None:
    inventory = load(
        tmp_path,
        """\
  - name: db
    scope: tag.cluster=db
    max_unavailable: 2
    update_domain: rack
    role: {command: "pg-role --short", timeout_seconds: 7}
    order: [replica, primary]
    quorum: 1
    drain: {kind: controller-command, target: "lb drain", timeout_minutes: 2, repeatable: false}
    undrain: {kind: http, target: "https://lb/undrain"}
    healthy: [{name: up, kind: tcp, target: "5432", timeout_seconds: 3}]
    healthy_minutes: 7.5
""",
    )
    assert inventory.sets == (
        MachineSet(
            name="db",
            scope="tag.cluster=db",
            members=("db-1", "db-2", "db-3"),
            max_unavailable=2,
            update_domain="rack",
            role=RoleSource(command="pg-role --short", timeout_seconds=7),
            order=("replica", "primary"),
            quorum=1,
            drain=SetAction(SetActionKind.CONTROLLER_COMMAND, "lb drain", 120, repeatable=False),
            undrain=SetAction(SetActionKind.HTTP, "https://lb/undrain", 300, repeatable=True),
            healthy=(Check("up", CheckKind.TCP, "5432", timeout_seconds=3),),
            healthy_seconds=450,
        ),
    )


def test_what_is_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, "  - {name: db, scope: tag.cluster=db}\n").sets == (
        MachineSet("db", "tag.cluster=db", ("db-1", "db-2", "db-3")),
    )


@pytest.mark.parametrize("written", ["", "  # none yet\n"])
def test_an_empty_list_is_no_set(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, written).sets == ()


def test_a_machine_may_be_in_two_sets(tmp_path: Path) -> None:
    found = load(tmp_path, "  - {name: db, scope: tag.cluster=db}\n  - {name: all, scope: '*'}\n").sets
    assert [each.members for each in found] == [("db-1", "db-2", "db-3"), ("db-1", "db-2", "db-3", "other")]


@pytest.mark.parametrize(
    ("written", "members", "allowed"),
    [
        ("1", 4, 1),
        ("3", 4, 3),
        ("25%", 4, 1),
        ("'25 %'", 8, 2),
        ("25%", 7, 1),
        ("0.5%", 4, 1),
        ("100%", 4, 4),
        ("33.4%", 100, 33),
        (None, 9, 1),
        (None, 10, 2),
        (None, 24, 4),
    ],
)
def test_how_many_may_be_out(tmp_path: Path, written: str | None, members: int, allowed: int) -> None:
    share = f", max_unavailable: {written}" if written else ""
    found = load(tmp_path, f"  - {{name: web, scope: '*'{share}}}\n", f"machines: ['web-[1:{members}]']\n")
    assert found.sets[0].allowed_unavailable == allowed


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("max_unavailable: 0", "fleet.yaml:8: sets.0.max_unavailable: with no member out of service"),
        ("max_unavailable: -1", "'-1' is neither a number of machines nor a percentage Give a number of members"),
        ("max_unavailable: some", "'some' is neither a number of machines nor a percentage"),
        ("max_unavailable: 0%", "'0%' is out of range Give more than 0%"),
        ("max_unavailable: 101%", "'101%' is out of range"),
        ("max_unavailable: [1]", "sets.0.max_unavailable: a list is not text"),
        ("quorum: 3", "fleet.yaml:8: sets.0.quorum: the set 'db': with a quorum of 3 and 3 members, none could ever"),
        ("quorum: 0", "sets.0.quorum: '0' is out of range Give at least 1."),
        ("quorum: 1.5", "sets.0.quorum: '1.5' is not a whole number"),
        ("order: [replica, primary]", "sets.0.order: the set 'db': an order of roles, and no role Say with `role`"),
        (
            "role: {tag: role}, order: [replica, primry]",
            "sets.0.order: the set 'db': no member has the role 'primry' Did you mean 'primary'? Roles of its members "
            "are primary, replica.",
        ),
        ("role: {tag: role}, order: primary primary", "the role 'primary' stands here twice"),
        ("role: {tag: rol}", "sets.0.role: the set 'db': no member has a tag 'rol' Did you mean 'role'? Tags of its "),
        ("role: {}", "sets.0.role: a role comes from a tag or from a command Give `tag` or `command`."),
        ("role: {tag: role, command: x}", "a role comes from a tag or from a command"),
        ("role: {command: ' '}", "its command is empty or contains NUL"),
        ("role: role", "sets.0.role: 'role' is not a map"),
        ("update_domain: rak", "sets.0.update_domain: the set 'db': no member has a tag 'rak' Did you mean 'rack'?"),
        ("drain: {kind: machine-command, target: ' '}", "sets.0.drain: its target is empty Correct `target`"),
        ("drain: {kind: controller-command, target: 'a \"b'}", "its target can't be split into words: No closing"),
        ("undrain: {kind: http, target: 'ftp://u:secret@h'}", "its target is not a usable http or https URL: it does"),
        ("drain: {kind: python, target: 'a.b'}", "its target is not package.module:function: 'a.b'"),
        ("drain: {kind: deployment, target: 'flow'}", "its target is not flow/deployment: 'flow'"),
        ("drain: {kind: shell, target: x}", "sets.0.drain.kind: 'shell' is not one of machine-command, controller-"),
        ("drain: {kind: http, target: 'http://h', timeout_minutes: 0}", "'0' is out of range Give more than 0"),
        (
            "drain: {kind: http, target: 'http://h', timeout: 1}",
            "unknown key 'timeout' Did you mean 'timeout_minutes'?",
        ),
        ("drain: lb drain", "sets.0.drain: 'lb drain' is not a map"),
        ("healthy: [{name: up, kind: tcp, target: '0'}]", "sets.0.healthy.0: '0' is no TCP target"),
        ("healthy: [{name: up, kind: tcp, target: 'localhost:80'}]", "'up' asks the controller, and not the member"),
        (
            "healthy: [{name: up, kind: http, target: 'https://[::1]/x'}]",
            "'up' asks the controller, and not the member",
        ),
        (
            "healthy: [{name: up, kind: command, target: x, level: warn}]",
            "sets.0.healthy: 'up' can't make a member unhealthy Leave out `level: warn`.",
        ),
        ("healthy_minutes: -1", "sets.0.healthy_minutes: '-1' is out of range"),
        ("quorm: 1", "fleet.yaml:8: sets.0.quorm: unknown key 'quorm' Did you mean 'quorum'? Known keys: name, scope"),
    ],
)
def test_what_is_refused(tmp_path: Path, written: str, message: str) -> None:
    (problem,) = refuse(tmp_path, f"  - {{name: db, scope: tag.cluster=db,\n     {written}}}\n")
    assert message in problem
    assert "secret" not in problem


def test_no_name_and_no_scope(tmp_path: Path) -> None:
    assert refuse(tmp_path, "  - {scope: '*'}\n  - {name: a}\n  - web\n") == [
        "fleet.yaml:7: sets.0: 'name' is missing Add `name:`.",
        "fleet.yaml:8: sets.1: 'scope' is missing Add `scope:`.",
        "fleet.yaml:9: sets.2: a map is wanted here, not text Write `name:` and `scope:` under it.",
    ]


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ("env=prod", "sets.0.scope: the set 'db': no machine is in the scope 'env=prod': of 4 machines"),
        ("tag.clster=db", "the set 'db': no machine has a tag 'clster', which the scope asks for in 'clster=db' Did"),
        ("a=,b", "the set 'db': in the scope 'a=,b'"),
    ],
)
def test_a_scope_that_selects_nothing(tmp_path: Path, scope: str, message: str) -> None:
    (problem,) = refuse(tmp_path, f"  - {{name: db, scope: '{scope}'}}\n")
    assert message in problem


def test_two_sets_with_one_name(tmp_path: Path) -> None:
    sets = "".join(f"  - {{name: {name}, scope: '*'}}\n" for name in ("db", "db", "DB"))
    assert refuse(tmp_path, sets) == [
        "fleet.yaml:8: sets.1.name: the set 'db' stands here twice, first in fleet.yaml:7 Remove or rename one of the "
        "two.",
        "fleet.yaml:9: sets.2.name: the set 'DB' differs from another only in case, first in fleet.yaml:7 Remove or "
        "rename one of the two.",
    ]


ORDERED = "  - {{name: {name}, scope: tag.cluster=db, role: {{tag: role}}, order: [{order}]}}\n"


def test_two_orders_that_contradict_each_other(tmp_path: Path) -> None:
    """Each member would wait for the other one until the window ends, in every run."""
    sets = ORDERED.format(name="one", order="replica, primary") + ORDERED.format(name="two", order="primary, replica")
    (problem,) = refuse(tmp_path, sets)
    assert problem == (
        "fleet.yaml:8: sets.1.order: the set 'two': db-1 comes before db-3, and in the set 'one' after it Neither "
        "could ever begin. Correct one of the two orders."
    )


@pytest.mark.parametrize("order", ["replica, primary", "replica", "primary"])
def test_two_orders_that_go_together(tmp_path: Path, order: str) -> None:
    """In the order [primary] the replicas come first, as every role that is not listed."""
    sets = ORDERED.format(name="one", order="replica, primary") + ORDERED.format(name="two", order=order)
    contradicts = order == "replica"  # so the primary comes first there
    if contradicts:
        assert len(refuse(tmp_path, sets)) == 1
    else:
        assert len(load(tmp_path, sets).sets) == 2


@given(
    roles=st.lists(st.sampled_from(["a", "b", "c", "x"]), min_size=1, max_size=6),
    orders=st.tuples(*[st.permutations(["a", "b", "c"]).map(lambda order: order[:2])] * 2),
)
def test_contradictions_are_found_whatever_the_orders(
    tmp_path_factory: pytest.TempPathFactory, roles: list[str], orders: tuple[list[str], list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    rows = "".join(f"  - {{name: m{number}, tags: {{role: {role}}}}}\n" for number, role in enumerate(roles))
    known = [[role for role in order if role in roles] for order in orders]
    sets = "".join(
        f"  - {{name: s{number}, scope: '*', role: {{tag: role}}, order: [{', '.join(order)}]}}\n"
        for number, order in enumerate(known)
    )
    ranks = [[order.index(role) if role in order else -1 for role in roles] for order in known]
    pairs = [(one, other) for one in range(len(roles)) for other in range(len(roles))]
    contradicts = any(ranks[0][one] < ranks[0][other] and ranks[1][one] > ranks[1][other] for one, other in pairs)
    if contradicts and all(known):
        assert len(refuse(folder, sets, f"machines:\n{rows}")) == 1
    elif all(known):
        assert len(load(folder, sets, f"machines:\n{rows}").sets) == 2


@pytest.mark.parametrize(
    ("healthy", "warned"), [("", True), (", healthy: [{name: a, kind: command, target: b}]", False)]
)
def test_a_drain_that_no_check_sees(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, healthy: str, warned: bool
) -> None:
    load(tmp_path, f"  - {{name: db, scope: tag.cluster=db, drain: {{kind: machine-command, target: x}}{healthy}}}\n")
    told = "the set db has `drain` and no `healthy`: no run sees a member that stays drained"
    assert (told in [record.getMessage() for record in caplog.records]) is warned


@pytest.mark.parametrize(("undrain", "warned"), [("", True), (", undrain: {kind: machine-command, target: x}", False)])
def test_a_drain_that_nothing_undoes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, undrain: str, warned: bool
) -> None:
    load(tmp_path, f"  - {{name: db, scope: tag.cluster=db, drain: {{kind: machine-command, target: x}}{undrain}}}\n")
    told = "the set db has `drain` and no `undrain`: nothing brings its members back"
    assert (told in [record.getMessage() for record in caplog.records]) is warned


def test_sets_are_a_list(tmp_path: Path) -> None:
    assert refuse(tmp_path, "  db: {scope: '*'}\n") == [
        "fleet.yaml:6: sets: `sets` is a list Write each set as `- name: ...`."
    ]


def test_a_faulty_machine_makes_no_faults_of_sets(tmp_path: Path) -> None:
    (problem,) = refuse(tmp_path, "  - {name: db, scope: tag.cluster=db}\n", "machines:\n  - {name: a, port: x}\n")
    assert "machines.0.port" in problem


FIRST = "machines: [{name: a-1, tags: {k: a}}]\nsets: [{name: a, scope: k=a}]\n"
SECOND = "machines: [{name: a-2, tags: {k: a}}]\nsets: [{name: all, scope: '*'}]\n"


def test_files_of_a_directory_share_their_machines(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(FIRST)
    (tmp_path / "2.yaml").write_text(SECOND)
    found = load_inventory(tmp_path).sets
    assert [(each.name, each.members) for each in found] == [("a", ("a-1", "a-2")), ("all", ("a-1", "a-2"))]


def test_a_name_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(FIRST)
    (tmp_path / "2.yaml").write_text(FIRST.replace("a-1", "a-2"))
    with pytest.raises(InvalidInventory, match=r"2.yaml:2.*the set 'a' stands here twice, first in 1.yaml:2"):
        load_inventory(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts", "[db]\ndb-1 ansible_host=192.0.2.1\ndb-2 ansible_host=192.0.2.2\n"),
        ("hosts.yml", "db:\n  hosts:\n    db-1:\n    db-2:\n"),
        ("hosts.csv", "name,groups\ndb-1,db\ndb-2,db\n"),
    ],
)
def test_beside_other_formats(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "fleet.yaml").write_text("sets:\n  - {name: db, scope: group=db, quorum: 1}\n")
    assert load_inventory(tmp_path).sets == (MachineSet("db", "group=db", ("db-1", "db-2"), quorum=1),)


def test_a_group_of_ansible_may_be_named_sets(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text("sets:\n  hosts:\n    db-1:\n")
    (machine,) = load_inventory(path).machines
    assert (machine.name, machine.groups) == ("db-1", ("sets",))


def test_sets_without_any_machine(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("sets: [{name: a, scope: '*'}]\n")
    with pytest.raises(InvalidInventory, match="describes no machine"):
        load_inventory(path)


@pytest.mark.parametrize(("text", "role"), [("replica 2", "replica"), ("primary", "primary"), (" ", ""), ("", "")])
def test_the_first_word_of_a_tag_is_the_role(text: str, role: str) -> None:
    assert RoleSource(tag="role").find_in_tags({"role": text}) == role
    assert RoleSource(command="x").find_in_tags({"role": text, "": text}) == ""


@given(members=st.integers(1, 300), percent=st.floats(0.001, 100, allow_nan=False))
def test_a_share_is_never_exceeded_and_never_none(members: int, percent: float) -> None:
    names = tuple(map(str, range(members)))
    allowed = MachineSet("s", "*", names, max_unavailable_percent=percent).allowed_unavailable
    assert 1 <= allowed <= members
    assert allowed == 1 or allowed <= members * percent / 100 + 1e-6


@given(members=st.integers(1, 6), quorum=st.integers(1, 8))
def test_a_quorum_leaves_room_for_one(tmp_path_factory: pytest.TempPathFactory, members: int, quorum: int) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    text = f"  - {{name: s, scope: '*', quorum: {quorum}}}\n"
    machines = f"machines: ['m-[1:{members}]']\n"
    if quorum < members:
        assert load(folder, text, machines).sets[0].quorum == quorum
    else:
        assert len(refuse(folder, text, machines)) == 1
