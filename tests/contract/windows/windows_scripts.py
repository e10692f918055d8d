"""Scripts of the contract tests for Windows: the same names as those for POSIX shells."""

from tasks.domain.protocols.transport import SHARED_SCRIPTS
from tasks.machines.transport.script_library import load_windows_script

_SHUTDOWN = "Invoke-FpProgram -Name shutdown.exe -Arguments '/r', '/t', \"$delay\", '/d', 'p:2:17', '/c', $comment"
TEXTS = {
    "quick": "Write-FpRecord ran",
    "endless": """
        Write-FpRecord begun
        while (-not (Test-FpStopRequested)) { Start-Sleep -Milliseconds 50 }
        Write-FpRecord stopped""",
}


def load_test_script(name: str, package: str = SHARED_SCRIPTS) -> str:
    """Return a script of the tests or of the product."""
    if name == "would_reboot":  # all but the shutdown itself
        text = load_windows_script("reboot")
        assert _SHUTDOWN in text
        return text.replace(_SHUTDOWN, "Deny-FpOrder -Why 'it would reboot now'")
    return TEXTS[name] if name in TEXTS else load_windows_script(name, package)
