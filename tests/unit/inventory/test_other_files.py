"""Files that are no inventory: none of their text is repeated, as it may be secret, and nothing is read without end."""

import logging
import os
import time
from pathlib import Path

import pytest

from inventory.errors import InvalidInventory, InventoryError
from inventory.loader import load_inventory

SECRET = "hunter2"
AT, KEY = "@", "KEY"  # so that nobody takes these texts for real secrets
TEXTS = {
    "passwd": "root:x:0:0:hunter2:/root:/bin/bash\ndaemon:x:1:1:hunter2 two:/usr/sbin:/usr/sbin/nologin\n",
    "shadow": "root:$6$hunter2$abc:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nhunter2:!:1::::::\n",
    ".env": f"DB_PASSWORD=hunter2\nexport API_KEY=hunter2\nURL='https://me:hunter2{AT}h/'\nhunter2=x\n",
    "quoted .env": "# ours\nDB_PASSWORD='hunter2 with blanks'\n",
    "export": "export DB_PASSWORD=hunter2\nexport B=hunter2 hunter2\n",
    "my.cnf": "[client]\nuser=me\npassword=hunter2\npassword = hunter2\nhunter2\\\n'hunter2\n",
    "aws": "[default]\naws_access_key_id = hunter2\naws_secret_access_key = hunter2/x+y==\nhunter2/x+y==\n",
    "pgpass": "db.example.org:5432:app:me:hunter2\n*:*:*:*:hunter2\n",
    "netrc": "machine h login me password hunter2\n",
    "htpasswd": "me:$apr1$hunter2$x\nyou:hunter2\n",
    "key": (
        f"-----BEGIN OPENSSH PRIVATE {KEY}-----\nhunter2hunter2hunter2\nhunter2==\n-----END OPENSSH PRIVATE KEY-----\n"
    ),
    "credentials": f"https://me:hunter2{AT}github.com\n",
    "one line": "hunter2!\n",
    "docker": '{"auths": {"h": {"auth": "hunter2"}}}\n',
    "yaml": "password: hunter2\ndb:\n  password: hunter2\n",
    "yaml list": "- hunter2\n- password: hunter2\n",
    "yaml text": "hunter2 two\nhunter2 three\n",
    "yaml key": "hunter2: x\nhunter2: y\n? [hunter2]\n: z\n",
    "yaml tag": "a: !hunter2 b\nb: *hunter2\nc: &hunter2 [\n",
    "kube": "apiVersion: v1\nusers:\n- name: me\n  user: {token: hunter2}\n",
    "terraform": 'password = "hunter2"\nresource "x" "hunter2" {\n}\n',
    "csv": "hunter2,me\nroot,hunter2\n",
    "semicolons": "user;hunter2;x\n",
    "bad csv": 'name,password\n"hunter2"x,y\n',
    "toml": '[a]\npassword = "hunter2"\n',
    "ini of hosts with a password": "[web]\nh ansible_password=hunter2\nhunter2@h\nh:hunter2\n[hunter2\n",
}
NAMES = ("x", "hosts", "x.ini", "x.yaml", "x.json", "x.csv", "x.toml", "passwd", ".env", "x.conf")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", TEXTS)
def test_what_is_no_inventory_is_not_quoted(
    tmp_path: Path, case: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / name).write_text(TEXTS[case])
    try:
        load_inventory(tmp_path / name)
        problems: tuple[InventoryError, ...] = ()
    except InvalidInventory as refused:
        problems = refused.problems
    assert bool(problems) or case == "export"  # a host of that name, with variables that are not looked at
    assert SECRET not in "\n".join(f"{each} {each.hint}" for each in problems) + caplog.text
    assert all(each.hint for each in problems)


@pytest.mark.parametrize("case", ["passwd", "shadow", ".env", "pgpass", "htpasswd", "one line", "key"])
def test_one_fault_is_enough(tmp_path: Path, case: str) -> None:
    (tmp_path / "x").write_text(TEXTS[case])
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(tmp_path / "x")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/sys", "/dev", "/dev/zero", "/dev/null", "/dev/random", "/"])
def test_what_the_system_shows_as_files_is_not_read_on(path: str) -> None:
    began = time.process_time()
    with pytest.raises(InventoryError) as caught:
        load_inventory(Path(path))
    assert time.process_time() - began < 3
    assert caught.value.hint or getattr(caught.value, "problems", None)


def test_a_directory_of_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.loader.MAX_FILES", 1000)
    for number in range(1001):
        (tmp_path / f"{number}").touch()
    with pytest.raises(InvalidInventory, match="more than 1,000 entries"):
        load_inventory(tmp_path)


def test_only_regular_files_of_a_directory_are_read(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\na\n")
    (tmp_path / "group_vars").mkdir()
    for name in ("production", "group_vars/all"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InvalidInventory, match=r"group_vars/all: .*no regular file") as caught:
        load_inventory(tmp_path)
    assert len(caught.value.problems) == 1  # what Ansible would wait for, nobody reads here; `production` is left out
    os.mkfifo(tmp_path / "x.yml")
    with pytest.raises(InvalidInventory, match=r"x\.yml: .*no regular file"):
        load_inventory(tmp_path)


def test_directories_that_contain_themselves_end(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[web]\na\n")
    (tmp_path / "sub").symlink_to(tmp_path)
    with pytest.raises(InvalidInventory, match="too deep"):
        load_inventory(tmp_path)
    (tmp_path / "sub").unlink()
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "web").symlink_to(tmp_path / "group_vars")
    with pytest.raises(InvalidInventory, match="nest deeper"):
        load_inventory(tmp_path)


def test_a_pipe_that_is_written_to_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.files.text_files.PIPE_TOTAL_TIMEOUT_SECONDS", 0.0)
    reading, writing = os.pipe()
    os.write(writing, b"machines: [a]\n")
    with pytest.raises(InvalidInventory, match="was not done after"):
        load_inventory(Path(f"/dev/fd/{reading}"))
    os.close(reading)
    os.close(writing)
