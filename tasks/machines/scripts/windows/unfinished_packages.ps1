# Finds a change of packages that is at work. A reboot or a restart of services would interrupt it.

function Get-FpServicingState { # of Windows' component servicing: 2 while it works, 1 while it only waits for a reboot
    $path = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Interface'
    if (-not (Test-Path -LiteralPath $path)) { return 0 }
    [int] (Get-Item -LiteralPath $path).GetValue('ServicingInProgress', 0)
}

function Find-FpUnfinished { # who changes packages now, or ''
    if ((Get-FpServicingState) -eq 2) { 'Windows servicing is at work' } else { '' }
}
