"""What configurations name and this machine does not have: told by `config check`, not by a night."""

from pathlib import Path

import pytest

from deployments.checks.controller_checks import check_controller
from tasks.rules.calendar.checks import FindingSeverity
from tests.unit.config.folder import WEEKLY, Folder


def told(folder: Folder, more: str) -> list[tuple[str, str]]:
    found = check_controller(folder.read(f"name: a\nscope: '*'\n{WEEKLY}\n{more}\n"))
    assert all(each.severity is FindingSeverity.WARNS and each.remedy and each.configuration == "a" for each in found)
    return [(each.key, each.message) for each in found]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/null", "it is no folder"),
        ("/dev/null/reports", "/dev/null is no folder"),
        ("one.yaml", "it is no folder"),
        ("one.yaml/x", "one.yaml is no folder"),
        ("/proc/reports", "/proc can't be written to"),
        ("broken", "it is no folder"),
        ("/" + "a" * 300, "File name too long"),
        ("", ""),
        (".", ""),
        ("new/er/est", ""),
    ],
)
def test_folders_of_reports(folder: Folder, path: str, words: str) -> None:
    (folder.path / "broken").symlink_to("nowhere")
    found = told(folder, f"report_directory: '{path}'" if path else "")
    if words == "/proc can't be written to" and not found:
        return  # root may write anywhere, as far as the system says before it is tried
    assert [key for key, _ in found] == ["report_directory"] * bool(words)
    assert all(words in message for _, message in found)


def hook(kind: str, target: str) -> str:
    return f"hooks: {{before_run: [{{name: h, kind: {kind}, target: '{target}'}}]}}"


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("python", "nowhere:tell", "no module nowhere"),
        ("python", "json.nowhere:tell", "no module json.nowhere"),
        ("python", "json:no_such", "no function no_such in the module json"),
        ("python", "broken:tell", "broken can't be read"),
        ("python", "json:loads", ""),
        ("python", "ours.hooks:tell", ""),
        ("python", "ours.hooks:taken", ""),
        ("python", "ours.hooks:perhaps", ""),
        ("python", "ours.hooks:no", "no function no in the module ours.hooks"),
        ("python", "math:sqrt", ""),
        ("python", "sys:exit", ""),
        ("controller-command", "no-such-program --x", "no executable program no-such-program"),
        ("controller-command", "/etc/passwd", "no executable program /etc/passwd"),
        ("controller-command", "./tell.sh", "is a relative path"),
        ("controller-command", "true", ""),
        ("controller-command", "/bin/sh -c true", ""),
    ],
)
def test_hooks(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, target: str, words: str
) -> None:
    package = tmp_path / "path" / "ours"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "hooks.py").write_text(
        "raise SystemExit()\nfrom json import dumps as taken\nif 1:\n    perhaps = print\ndef tell(event): ...\n"
    )
    (package.parent / "broken.py").write_text("def (")
    monkeypatch.syspath_prepend(package.parent)
    found = told(folder, hook(kind, target))
    assert [key for key, _ in found] == ["hooks"] * bool(words)
    assert all(words in message and "the hook 'h' (before_run)" in message for _, message in found)


def test_files_of_people_to_tell_count_from_their_configuration(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "secrets").mkdir()
    (folder.path / "secrets" / "team").write_text("json://h")
    (folder.path / "secrets" / "team").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    text = "notify: [{to: 'file:secrets/team'}]"
    assert told(folder, text) == []
    one = folder.one(f"name: a\nscope: '*'\n{WEEKLY}\n{text}\n")
    assert one.build_request().notify[0].to == f"file:{folder.path}/secrets/team"
    (folder.path / "secrets" / "team").chmod(0o644)
    assert "open to others" in told(folder, text)[0][1]
    assert "there is no password file" in told(folder, "notify: [{to: 'file:secrets/none'}]")[0][1]
    assert told(folder, "notify: [{to: 'env:X'}, {to: 'block:y'}]") == []


def test_a_path_that_becomes_too_long_is_refused_where_it_stands(folder: Folder) -> None:
    text = f"name: a\nscope: '*'\n{WEEKLY}\nnotify:\n- to: 'file:{'a/' * 240}b'\n"
    ((line, key, words),) = folder.faults(text)
    assert (line, key) == (5, "notify.0.to")
    assert "more than 500 characters" in words
