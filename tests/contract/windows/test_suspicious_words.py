"""No script for Windows is one that PowerShell itself calls suspicious.

PowerShell compares each script that it compiles with a list of words (ScriptBlock.CheckSuspiciousContent, in
CompiledScriptBlock.cs of github.com/PowerShell/PowerShell). If one is in it, also in a comment, the whole text is
logged as a warning: event 4104, whatever the settings of the log are. So is a text with a member whose name is computed
($value.$name). Who watches the log gets an alert for each poll then.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.domain.protocols.transport import SHARED_SCRIPTS, Script
from tasks.machines.managers.windows_update.manager import PACKAGE
from tasks.machines.transport.powershell_host import build_command_line, build_powershell_stdin, wrap_powershell_script
from tasks.machines.transport.script_library import compose_script, load_script_parameters, load_windows_script
from tests.support.local_powershell import require_pwsh

TOP = Path(__file__).parents[3]
FOLDERS = {SHARED_SCRIPTS: "tasks/machines/scripts/windows", PACKAGE: "tasks/machines/managers/windows_update/scripts"}
WORDS = """
    code of its own: Add-Type DllImport DefineDynamicAssembly DefineDynamicModule DefineType DefineConstructor
        CreateType DefineLiteral DefineEnum DefineField ILGenerator Emit UnverifiableCodeAttribute
        DefinePInvokeMethod
    reflection: GetTypes GetAssemblies Methods Properties GetConstructor GetDefaultMembers GetEvent GetField
        GetInterface GetMember GetMethod GetNestedType GetProperties GetProperty InvokeMember MakeArrayType
        MakeByRefType MakeGenericType MakePointerType DeclaringMethod DeclaringType ReflectedType TypeHandle
        TypeInitializer UnderlyingSystemType BindingFlags NonPublic
    memory: InteropServices Marshal AllocHGlobal PtrToStructure StructureToPtr FreeHGlobal IntPtr VirtualAlloc
        VirtualFree VirtualProtect WriteProcessMemory ReadProcessMemory memcpy WriteByte WriteInt32 PtrToString
        ZeroFreeGlobalAllocUnicode GetDelegateForFunctionPointer
    hidden text: MemoryStream DeflateStream FromBase64String ToBase64String EncodedCommand Bypass ExpandString
        GetPowerShell
    Windows' own functions: OpenProcess CreateUserThread CloseHandle kernel32 CreateThread LoadLibrary
        GetModuleHandle GetProcAddress FreeLibrary CreateRemoteThread GetProcessHandle DangerousGetHandle
        DeviceIoControl SetInformationProcess OpenWindowStation OpenDesktop MiniDumpWriteDump AddSecurityPackage
        EnumerateSecurityPackages
    rights: AdjustTokenPrivileges OpenThreadToken OpenProcessToken GetTokenInformation SetThreadToken
        ImpersonateLoggedOnUser RevertToSelf GetLogonSessionData CreateProcessWithToken DuplicateTokenEx
    encryption: CryptoServiceProvider Cryptography RijndaelManaged SHA1Managed CryptoStream CreateEncryptor
        CreateDecryptor TransformFinalBlock PasswordDeriveBytes
    keys and windows: GetAsyncKeyState GetKeyboardState GetForegroundWindow
    the log: ScriptBlockLogging LogPipelineExecutionDetails ProtectedEventLogging
"""
"""The list. Of two words of which one contains the other, it has the shorter one."""
ASK_POWERSHELL = """
$check = [scriptblock].GetMethod('CheckSuspiciousContent', [System.Reflection.BindingFlags]'NonPublic, Static')
foreach ($text in @(ConvertFrom-Json -InputObject ([Console]::In.ReadToEnd()))) {
    $ast = [System.Management.Automation.Language.Parser]::ParseInput($text, [ref]$null, [ref]$null)
    "$($check.Invoke($null, @($ast)))" -replace '\\s+', ' '
}
"""


def list_words() -> list[str]:
    return [word for line in WORDS.splitlines() for word in line.rpartition(": ")[2].lower().split()]


def find_words(text: str) -> list[str]:
    return [word for word in list_words() if word in text.lower()]


def list_scripts() -> Iterator[Script]:
    for package, folder in FOLDERS.items():
        for path in sorted((TOP / folder).glob("*.ps1")):
            yield Script(path.stem, package=package)


def list_texts() -> Mapping[str, str]:
    """All texts that are sent to a machine, as they are compiled there."""
    loaders = {"loader": load_windows_script, "required_loader": load_windows_script}
    texts = {"the command line": base64.b64decode(build_command_line().split()[-1]).decode("utf-16-le")}
    for script in list_scripts():
        text = compose_script(script, **loaders)
        texts[script.name] = json.loads(build_powershell_stdin(text, {}, "nonce"))["script"]
        texts[f"{script.name} in a job"] = wrap_powershell_script(text)
        texts |= load_script_parameters(script, **loaders)
    return texts


def test_the_list_finds_what_it_is_to_find() -> None:
    assert len(list_words()) == len(set(list_words())) == 111
    assert find_words("$from.PSObject.Properties['a'] # all methods") == ["methods", "properties"]


def test_no_text_has_a_word_of_the_list() -> None:
    assert {name: found for name, text in list_texts().items() if (found := find_words(text))} == {}


def test_what_is_sent_again_and_again_is_short() -> None:
    """Where a policy has each script logged, each look at a job is in the log."""
    look, order = list_texts()["job_look"], list_texts()["job_stop"]
    assert "function Get-FpBootId" in order
    assert "function Get-FpBootId" not in look
    assert len(look) < 20_000


def test_powershell_itself_finds_no_text_suspicious() -> None:
    require_pwsh()
    texts = {"suspicious": "$a = 'Add-Type'", **list_texts()}
    done = subprocess.run(
        [str(shutil.which("pwsh")), "-NoProfile", "-NonInteractive", "-Command", ASK_POWERSHELL],
        input=json.dumps(list(texts.values())), capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    found = dict(zip(texts, done.stdout.splitlines(), strict=True))
    assert {name: said for name, said in found.items() if said} == {"suspicious": "Add-Type"}
