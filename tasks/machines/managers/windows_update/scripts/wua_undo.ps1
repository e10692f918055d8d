# A job that removes updates of Windows, one after the other: their packages of the component store, by the module Dism.
# wusa.exe can't be used: it asks a person, and can't remove a cumulative update. It never reboots.
# Parameters: those of transactions, wua_turn and error_codes; tx_N_updates (list of "KB|NAME").
# Records: see PackageManager; transaction_ended also has reboot_required.
# Step: install
# Changes: packages of updates that an undo removes, and a note of when in the registry
# Requires: servicing_packages, error_codes, transactions, wua_turn

function Save-FpRemoval {
    # Notes when an update was removed, for Write-FpRemovals: the agent's history has no entry of it.
    param([Parameter(Mandatory = $true, Position = 0)][string] $Kb)
    $key = 'HKLM:\SOFTWARE\FleetPatch\Removed'
    if (-not (Test-Path -LiteralPath $key)) { $null = New-Item -Path $key -Force }
    $null = New-ItemProperty -LiteralPath $key -Name $Kb -Value "$(Get-FpNow)" -PropertyType String -Force
}

function Remove-FpUpdate {
    # Removes the packages of one update. What fails is added to the transaction.
    param([hashtable] $Part, [string] $Kb, [string] $Name)
    try {
        $packages = @(Find-FpPackages @($Kb) | Where-Object -FilterScript {
                $_.State -eq 'Installed' -and $_.Name -notlike 'Package_for_ServicingStack*'
            })
        if ($packages.Count -eq 0) {
            $Part.ExitCode = 1
            $Part.Cause = 'refused'
            $Part.Messages += "refused: ${Name}: no package that can be removed belongs to it"
        }
        foreach ($package in $packages) {
            $result = Remove-WindowsPackage -Online -PackageName $package.Name -NoRestart -ErrorAction Stop
            if ($result.RestartNeeded) { $Part.Reboot = $true }
            Save-FpRemoval $Kb
        }
    } catch {
        $code = Get-FpCode (Get-FpHResult $_) -Name $Name
        $Part.ExitCode = $code.Code
        $Part.Cause = $code.Cause
        $Part.Messages += "$($code.Cause): ${Name}: $($code.Text)"
    }
}

function Invoke-FpRemoval {
    param([hashtable] $Part)
    $who = Wait-FpTurn -Latest $Part.Latest
    if (Test-FpHindered $Part) { return }
    if ($who -ne '') { Write-FpTransactionEnded $Part -ExitCode 1 -Cause 'lock' -Message "lock: $who"; return }
    if (Test-FpOver $Part.Latest) { Write-FpNotAttempted $Part -Why 'window'; return }
    Write-FpTransactionStarted $Part
    foreach ($text in @(Get-FpListParam "tx_$($Part.Number)_updates")) {
        $fields = @($text -split '\|', 2)
        Write-FpProgress $Part -Percent 0 -Update $fields[1] -Action 'removing'
        Remove-FpUpdate -Part $Part -Kb $fields[0] -Name $fields[1]
    }
    $end = @{ ExitCode = $Part.ExitCode; Cause = $Part.Cause; Reboot = $Part.Reboot }
    Write-FpTransactionEnded $Part @end -Message ($Part.Messages -join '; ')
}

Invoke-FpTransactions {
    param([hashtable] $Part)
    $Part.Messages = @()
    $Part.ExitCode = 0
    $Part.Cause = ''
    $Part.Reboot = $false
    if ((Get-FpParam 'work') -eq 'install') { Invoke-FpRemoval $Part; return }
    Write-FpTransactionStarted $Part # to remove something needs no download
    Write-FpTransactionEnded $Part
}
