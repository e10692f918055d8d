"""The look at PowerShell scripts: what it finds, and what it says where there is no PowerShell."""

import shutil
from pathlib import Path

import pytest

from tests.ci import powershell_scripts

PWSH = shutil.which("pwsh")
GOOD = b"# Says hello.\nWrite-Output -InputObject 'hello'\n"
BAD = {
    "Get-Content -LiteralPath x -AsByteStream\n": "PSUseCompatibleCommands",
    "Remove-Service -Name x\n": "PSUseCompatibleCommands",
    "$x = $null\n$x ?? 1\n": "PSUseCompatibleSyntax",
    "[System.Convert]::ToHexString([byte[]] 1)\n": "PSUseCompatibleTypes",
    "gci\n": "PSAvoidUsingCmdletAliases",
    "function {\n": "MissingNameAfterKeyword",
}


def test_what_is_not_ascii_and_what_is_too_long_is_found() -> None:
    content = ("# \u00fc\n" + "x" * 121 + "\n").encode()
    assert powershell_scripts.find_form_faults("a.ps1", content) == [
        "a.ps1:1: not ASCII: # \u00fc",
        "a.ps1:2: longer than 120 characters",
    ]
    assert powershell_scripts.find_form_faults("a.ps1", GOOD) == []


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_a_powershell_it_says_so_and_fails_only_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    assert powershell_scripts.main() == code
    assert capsys.readouterr().out == "skipped: no pwsh on PATH\n"


@pytest.mark.slow
@pytest.mark.skipif(PWSH is None, reason="PowerShell (pwsh) is not on PATH")
def test_what_windows_powershell_lacks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powershell_scripts, "ROOMS_OF_MACHINES", (str(tmp_path / "machine"),))
    monkeypatch.setattr(powershell_scripts, "KNOWN", tmp_path / "build/known.json")
    contents = {}
    for number, text in enumerate(BAD):
        path = tmp_path / f"machine{number}.ps1"
        path.write_text(text)
        contents[str(path)] = path.read_bytes()
    here, good = tmp_path / "here.ps1", tmp_path / "machine-good.ps1"
    here.write_text("$x = $null\n$x ?? 1\n")  # this PowerShell knows it
    good.write_bytes(GOOD)
    contents |= {str(path): path.read_bytes() for path in (here, good)}
    assert PWSH is not None

    faults = powershell_scripts.check_scripts(PWSH, contents)

    for number, rule in enumerate(BAD.values()):
        mine = [fault for fault in faults if fault.startswith(f"{tmp_path}/machine{number}.ps1:")]
        assert any(f" {rule}: " in fault for fault in mine), (rule, faults)
    assert not [fault for fault in faults if "here.ps1" in fault or "good" in fault]
    known = powershell_scripts.KNOWN.read_text()
    assert "good" in known
    assert "machine0" not in known  # what has findings is looked at again
    monkeypatch.setattr(powershell_scripts, "analyze", lambda *_: pytest.fail("it was looked at again"))
    assert powershell_scripts.check_scripts(PWSH, {str(good): GOOD}) == []
