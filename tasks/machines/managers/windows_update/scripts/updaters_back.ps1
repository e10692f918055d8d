# Restores what updaters.ps1 has set. It is put before that script, and a task of the machine runs it when the lock
# expires and no controller has come back. It needs nothing of the prelude.
# The file "updaters" beside the lock has four lines: the run, "yes" if the policy's key was there, the earlier value
# of NoAutoUpdate ("none" if it had none), and the task's name.

$FpAutomaticKey = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU'

function Read-FpPause { # what is paused, or nothing
    param([string] $Path)
    if (-not [System.IO.File]::Exists($Path)) { return }
    $lines = @([System.IO.File]::ReadAllLines($Path)) + @('', '', '', '')
    @{ Run = $lines[0]; HadKey = ($lines[1] -eq 'yes'); Was = $lines[2]; Task = $lines[3] }
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

function Remove-FpPauseTask {
    param([string] $Name)
    if ($Name -eq '') { return }
    try {
        $service = New-Object -ComObject 'Schedule.Service'
        $null = $service.Connect()
        $null = $service.GetFolder('\').DeleteTask($Name, 0)
    } catch {
        Write-Verbose -Message "${Name}: $_"
    }
}
