"""CSV inventories."""

from pathlib import Path

import pytest

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Inventory, Limits, Machine, OsFamily, TransportKind


def load(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "fleet.csv"
    path.write_bytes(text.encode())
    return load_inventory(path)


def test_columns_tags_and_lists(tmp_path: Path) -> None:
    inventory = load(
        tmp_path,
        "name,address,port,os,transport,credential,groups,jump,tag:ring,tag:role,max_reboots,legacy_crypto,user\n"
        "# left out for now,,,,,,,,,,,,\n"
        "\n"
        "hop,hop.example.org,,,,,,,,,,,\n"
        'a,192.0.2.1,2222,linux,ssh,key:id,web;db,hop,canary,"web one",2,true,\n'
        "b, 192.0.2.2 ,,windows,winrm,env:WIN,web db,,,,,,patch\n",
    )
    assert inventory.machines == (
        Machine(name="hop", address="hop.example.org"),
        Machine(
            name="a",
            address="192.0.2.1",
            port=2222,
            credential=f"key:{tmp_path}/id",
            groups=("web", "db"),
            jump=("hop",),
            tags={"ring": "canary", "role": "web one"},
            limits=Limits(max_reboots=2),
            legacy_crypto=True,
        ),
        Machine(
            name="b",
            address="192.0.2.2",
            os=OsFamily.WINDOWS,
            transport=TransportKind.WINRM,
            credential="env:WIN",
            user="patch",
            groups=("web", "db"),
        ),
    )


def test_as_spreadsheets_save_it(tmp_path: Path) -> None:
    text = "\ufeffname;address;tag:ring\r\na;192.0.2.1;x\r\nweb-[1:2];;y\r\n"
    inventory = load(tmp_path, text)
    assert [(machine.name, machine.address, machine.tags["ring"]) for machine in inventory.machines] == [
        ("a", "192.0.2.1", "x"),
        ("web-1", "web-1", "y"),
        ("web-2", "web-2", "y"),
    ]


def test_a_fault_of_the_header_hides_no_fault_of_the_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, "address,port,zone,pasword,port\n192.0.2.1,x,UTC,hunter2,1\n192.0.2.2,22,Mars,hunter2,1\n")
    told = str(caught.value)
    for words in (
        "no column 'name'",
        "unknown key 'pasword'",
        "'port' stands here twice",
        "'x' is not",
        "'Mars' is no",
    ):
        assert words in told
    assert "hunter2" not in told
    assert len(caught.value.problems) == 5


def test_a_file_of_another_kind_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, "user,thing,height\nann,hunter2,9\n")
    assert len(caught.value.problems) == 1
    assert "thing" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "remedy"),
    [
        ("", None, None, "this file is empty", "name,address,user,tag:ring"),
        ("\n\n", None, None, "this file is empty", "Begin it with a header"),
        ("name\n", None, None, "describes no machine", "Add one"),
        ("address\nx\n", 1, None, "no column 'name'", "The header names keys"),
        ("name,adress\na,b\n", 1, "adress", "unknown key 'adress'", "Did you mean 'address'?"),
        ("name,name\na,b\n", 1, "name", "stands here twice", "Remove one"),
        ("name,\na,b\n", 1, "column 2", "has no name", "Name it"),
        ("name,password\na,hunter2\n", 1, "password", "unknown key 'password'", "use `credential`"),
        ("name,tags\na,x\n", 1, "tags", "unknown key 'tags'", "tag:NAME"),
        ("name,port\na,22\nb,x\n", 3, "port", "'x' is not a whole number", "Give a whole number"),
        ("name,transport\na,shh\n", 2, "transport", "'shh' is not one of ssh", "Did you mean 'ssh'?"),
        ("name,zone\na,Mars\n", 2, "zone", "'Mars' is no time zone", "IANA name"),
        ("name,tag:a b\nx,y\n", 2, "tag:a b", "no usable tag name", "Use letters"),
        ("name,tag:\nx,y\n", 2, "tag:", "no usable tag name", "Use letters"),
        ("name,tag:ring\nx,a*\n", 2, "tag:ring", "a character that scopes use", "Leave out"),
        ("name,max_reboots\na,99\n", 2, "max_reboots", "out of range", "at most 10"),
        ("name,user\na\n", 2, None, "1 cell, but the header has 2", "Add what is missing"),
        ("name,user\na,b,c\n", 2, None, "3 cells, but the header has 2", "double quotes"),
        ("name,user\n,b\n", 2, None, "'name' is missing", "Add `name:`"),
        ('name,user\na,"b\n', 2, None, "no valid CSV", "double the quotes"),
        ('name,user\na,"b"c\n', 2, None, "no valid CSV", "double the quotes"),
        ('name,user\na,"b\nc"\nd,-e\n', 4, "user", "'-e' is no usable user name", "login name"),
        ("name,jump\na,b\n", 2, "jump", "no machine 'b'", "Jump hosts are machines"),
        ("name,user\na,x\na,y\n", 3, "name", "stands here twice, first in fleet.csv:2", "Remove or rename"),
        ("name,credential\na,hunter2\n", 2, "credential", "no credential reference", "A secret never stands"),
    ],
)
def test_faults(tmp_path: Path, text: str, line: int | None, column: str | None, message: str, remedy: str) -> None:
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, text)
    fault = next(problem for problem in caught.value.problems if message in problem.message)
    assert (fault.file, fault.line, fault.key) == (tmp_path / "fleet.csv", line, column)
    assert remedy in fault.hint
    assert "hunter2" not in f"{caught.value} {fault.hint}"


def test_all_rows_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(InvalidInventory) as caught:
        load(tmp_path, "name,port,zone\na,0,Mars\nb,x,UTC\n")
    assert {(fault.line, fault.key) for fault in caught.value.problems} == {(2, "port"), (2, "zone"), (3, "port")}


@pytest.mark.parametrize(
    "text",
    [
        "name\taddress\na\t192.0.2.1\n",
        "sep=;\r\nname;address\r\na;192.0.2.1\r\n",
        '"sep=|"\nname|address\na|192.0.2.1\n',
        "sep=\t\nname\taddress\na\t192.0.2.1\n",
    ],
)
def test_tabs_and_a_line_that_tells_the_separator(tmp_path: Path, text: str) -> None:
    (machine,) = load(tmp_path, text).machines
    assert (machine.name, machine.address) == ("a", "192.0.2.1")
