# A job: downloads or installs exactly the chosen updates with the Windows Update Agent, one after the other. It never
# reboots. Parameters: those of transactions, wua_steps and error_codes; tx_N_updates (list of "ID|REVISION|NAME");
# cumulative (ids of those that are cumulative updates of Windows).
# Records: see PackageManager; transaction_ended also has reboot_required. Its exit_code is the code of the first error
# (0x80240022 is 2149842978).
# Step: install
# Changes: updates of Windows: downloads or installs exactly the chosen ones
# Requires: wua_steps

function Get-FpMessage {
    # An error as one part of a record's text.
    param([hashtable] $Code, [string] $Name)
    $text = $Code.Text
    $own = '{0}:0x{1:X8}' -f $Name, [int64]$Code.Code
    if ($FpCodes.ContainsKey($own)) { $text = (Get-FpCode $Code.Code -Name $Name).Text } # its remedy is another one
    return "$($Code.Cause): ${Name}: $text"
}

function Select-FpChoices {
    # The updates of a transaction that may be installed: hashtables with Name and Update. The others are in Refused.
    param([hashtable] $Part)
    do {
        # again if another search was needed meanwhile: an update can be used only in the session that has found it
        $searches = $FpAgent.Searches
        $Part.Refused = @()
        $chosen = @()
        foreach ($text in @(Get-FpListParam "tx_$($Part.Number)_updates")) {
            $id, $revision, $name = $text -split '\|', 3
            $found = Find-FpChoice @{ Id = $id; Revision = [int]$revision; Name = $name }
            $found.Name = $name
            if ($null -ne $found.Update) { $chosen += $found } else { $Part.Refused += $found }
        }
    } while ($FpAgent.Searches -ne $searches)
    return , $chosen
}

function Write-FpRefusal {
    # The record of a transaction of which nothing can be installed.
    param([hashtable] $Part)
    $first = $Part.Refused[0]
    if ($null -ne $first['Code']) {
        $message = Get-FpMessage $first.Code $first.Name
        Write-FpTransactionEnded $Part -ExitCode $first.Code.Code -Cause $first.Code.Cause -Message $message
        return
    }
    $details = @($Part.Refused | ForEach-Object -Process { "$($_.Name): $($_.Detail)" })
    Write-FpNotAttempted $Part -Why $first.Why -Detail ($details -join '; ')
}

function Add-FpFailure {
    param([hashtable] $Part, [hashtable] $Code, [string] $Name)
    if ($Part.ExitCode -eq 0) {
        $Part.ExitCode = $Code.Code
        $Part.Cause = $Code.Cause
    }
    $Part.Messages += Get-FpMessage $Code $Name
}

function Get-FpDownloads {
    # Downloads the updates of a transaction, and returns those that are there. Part.Ended says why it was ended early.
    param([hashtable] $Part, [object[]] $Chosen)
    $ready = @()
    for ($index = 0; $index -lt $Chosen.Count; $index++) {
        $one = $Chosen[$index]
        Write-FpProgress $Part -Percent ([int](100 * $index / $Chosen.Count)) -Update $one.Name -Action 'downloading'
        $outcome = Invoke-FpDownload -Update $one.Update -StopAt $Part.StopAt
        $Part.Ended = $outcome.Ended
        if ($outcome.Ended -ne '') { break }
        if ($outcome.Ok) { $ready += $one } else { Add-FpFailure $Part -Code $outcome.Code -Name $one.Name }
    }
    return , $ready
}

function Write-FpOutcome {
    param([hashtable] $Part)
    foreach ($one in $Part.Refused) { $Part.Messages += "refused: $($one.Name): $($one.Why): $($one.Detail)" }
    if ($Part.Refused.Count -gt 0 -and $Part.ExitCode -eq 0) {
        $Part.ExitCode = 1
        $Part.Cause = 'refused'
    }
    $end = @{ ExitCode = $Part.ExitCode; Cause = $Part.Cause; Reboot = $Part.Reboot }
    Write-FpTransactionEnded $Part @end -Message ($Part.Messages -join '; ') -Undo ($Part.Undo -join '; ')
}

function Invoke-FpStage {
    param([hashtable] $Part)
    Write-FpTransactionStarted $Part
    $chosen = Select-FpChoices $Part
    $null = Get-FpDownloads -Part $Part -Chosen $chosen
    if ($Part.Ended -ne '') { Write-FpNotBegun $Part -Ended $Part.Ended }
    elseif ($chosen.Count -eq 0) { Write-FpRefusal $Part }
    else { Write-FpOutcome $Part }
}

function Test-FpReady {
    # Whether the installation may begin now; else with the record.
    param([hashtable] $Part, [object] $Installer)
    $who = Wait-FpTurn -Installer $Installer -Latest $Part.Latest
    if (Test-FpHindered $Part) { return $false }
    if ($who -ne '') { Write-FpTransactionEnded $Part -ExitCode 1 -Cause 'lock' -Message "lock: $who"; return $false }
    if ($Installer.RebootRequiredBeforeInstallation) {
        Write-FpNotAttempted $Part -Why 'a reboot has to come first' -Detail 'Windows installs nothing more before it'
        return $false
    }
    if (Test-FpOver $Part.Latest) { Write-FpNotAttempted $Part -Why 'download'; return $false }
    return $true
}

function Install-FpChoices {
    # Installs the downloaded updates of a transaction that has begun.
    param([hashtable] $Part, [object] $Installer, [object[]] $Ready)
    for ($index = 0; $index -lt $Ready.Count; $index++) {
        $one = $Ready[$index]
        $why = ''
        if ($index -gt 0) {
            $order = Find-FpShutdown
            if (Test-FpStopRequested) { $why = 'asked to stop' } elseif ($null -ne $order) { $why = $order.Words }
        }
        if ($why -ne '') {
            $Part.Refused += @{ Name = $one.Name; Why = 'it was not begun'; Detail = $why }
            continue
        }
        Write-FpProgress $Part -Percent ([int](100 * $index / $Ready.Count)) -Update $one.Name -Action 'installing'
        $outcome = Invoke-FpInstallation -Installer $Installer -Update $one.Update
        if ($outcome.Reboot) { $Part.Reboot = $true }
        if (-not $outcome.Ok) { Add-FpFailure $Part -Code $outcome.Code -Name $one.Name }
        elseif ($null -ne $outcome.Code) { $Part.Messages += Get-FpMessage $outcome.Code $one.Name }
        if ($outcome.Ok -and $one.Update.IsUninstallable) { $Part.Undo += Get-FpUndo $one }
    }
    Write-FpProgress $Part -Percent 100 -Update $Ready[-1].Name -Action 'finished'
}

function Get-FpUndo {
    # How to remove an update. wusa.exe can't remove a cumulative update of Windows: it has the servicing stack in it.
    param([hashtable] $One)
    if ((Get-FpListParam 'cumulative') -contains [string]$One.Update.Identity.UpdateID) {
        return 'Dism.exe /Online /Remove-Package /PackageName:NAME /NoRestart (NAME: Package_for_RollupFix with this ' +
            'build, in Dism.exe /Online /Get-Packages /Format:Table)'
    }
    foreach ($number in @(Get-FpItems $One.Update.KBArticleIDs)) { "wusa.exe /uninstall /kb:$number /norestart" }
}

function Invoke-FpInstall {
    param([hashtable] $Part)
    Write-FpDownloadStarted $Part
    $chosen = Select-FpChoices $Part
    if ($chosen.Count -eq 0) { Write-FpRefusal $Part; return }
    $ready = Get-FpDownloads -Part $Part -Chosen $chosen
    if ($Part.Ended -ne '') { Write-FpNotBegun $Part -Ended $Part.Ended; return }
    if ($ready.Count -eq 0) { Write-FpOutcome $Part; return }
    $installer = New-FpInstaller
    if (-not (Test-FpReady -Part $Part -Installer $installer)) { return }
    Write-FpTransactionStarted $Part
    Install-FpChoices -Part $Part -Installer $installer -Ready $ready
    Write-FpOutcome $Part
    # what was installed may change what applies: the servicing stack, and a failure that the agent did not survive
    $FpAgent.Offered = $null
}

Invoke-FpTransactions {
    param([hashtable] $Part)
    $Part.Refused = @()
    $Part.Messages = @()
    $Part.Undo = @()
    $Part.ExitCode = 0
    $Part.Cause = ''
    $Part.Ended = ''
    $Part.Reboot = $false
    switch (Get-FpParam 'work') {
        'stage' { Invoke-FpStage $Part }
        'install' { Invoke-FpInstall $Part }
        default { Write-FpNotAttempted $Part -Why 'nothing to repair' -Detail 'an update is installed or not' }
    }
}
