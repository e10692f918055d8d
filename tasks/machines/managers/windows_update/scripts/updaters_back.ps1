# Restores what updaters.ps1 has set. It is put before that script, and a task of the machine runs it when the lock
# expires and no controller has come back. It needs nothing of the prelude.
# The file "updaters" in the task's folder has three lines: the run, "yes" if the policy's key was there, and the
# earlier value of NoAutoUpdate ("none" if it had none).
# Requires: task_scheduler

$FpAutomaticKey = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU'

function Read-FpPause { # what is paused, or nothing
    param([string] $Path)
    if (-not [System.IO.File]::Exists($Path)) { return }
    $lines = @([System.IO.File]::ReadAllLines($Path)) + @('', '', '')
    @{ Run = $lines[0]; HadKey = ($lines[1] -eq 'yes'); Was = $lines[2] }
}

function Get-FpNoAutoUpdate { # the policy's value as text, or 'none'
    if (-not (Test-Path -LiteralPath $FpAutomaticKey)) { return 'none' }
    [string](Get-Item -LiteralPath $FpAutomaticKey).GetValue('NoAutoUpdate', 'none')
}

# Sets the value of before, unless its owner has changed it since. Returns which of both: back or left.
function Restore-FpAutomaticUpdates {
    param([hashtable] $Pause)
    if ((Get-FpNoAutoUpdate) -ne '1') { return 'left' }
    if ($Pause.Was -match '\A[0-9]{1,9}\z') {
        Set-ItemProperty -LiteralPath $FpAutomaticKey -Name 'NoAutoUpdate' -Value ([int]$Pause.Was)
        return 'back'
    }
    Remove-ItemProperty -LiteralPath $FpAutomaticKey -Name 'NoAutoUpdate'
    $key = Get-Item -LiteralPath $FpAutomaticKey
    $isEmpty = ($key.ValueCount -eq 0 -and $key.SubKeyCount -eq 0)
    if (-not $Pause.HadKey -and $isEmpty) { Remove-Item -LiteralPath $FpAutomaticKey }
    'back'
}
