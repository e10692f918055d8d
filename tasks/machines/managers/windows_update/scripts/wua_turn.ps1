# A function that waits while others change packages.
# Parameters: pause_seconds (between two looks or tries; 5), lock_wait_seconds (at most a day by default).
# Requires: transactions, unfinished_packages

$FpPause = [int](Get-FpParam 'pause_seconds' '5')

function Wait-FpTurn {
    # Waits while others install, at most for lock_wait_seconds and until the latest start. Returns who is at work
    # still, or ''. It waits no longer when nothing more may begin (see Test-FpHindered).
    param([int64] $Latest, [object] $Installer = $null)
    $until = [System.Math]::Min((Get-FpNow) + [int64](Get-FpParam 'lock_wait_seconds' '86400'), $Latest)
    while ($true) {
        if ((Test-FpStopRequested) -or $null -ne (Find-FpShutdown)) { return '' }
        $who = Find-FpUnfinished
        if ($who -eq '' -and $null -ne $Installer -and $Installer.IsBusy) { $who = 'another installation is at work' }
        if ($who -eq '' -or (Get-FpNow) -ge $until) { return $who }
        Start-Sleep -Seconds ([System.Math]::Max(1, [System.Math]::Min($FpPause, $until - (Get-FpNow))))
    }
}
