# The steps of a job that installs with the Windows Update Agent: find exactly the chosen updates, download one, install
# one. They run as SYSTEM. Nothing here ends an installation, and none is repeated.
# Parameters: accept_licences ("yes"), and those of wua_turn.
# Requires: wua_agent, wua_turn, error_codes, transactions

$FpAgent = @{ Session = $null; Offered = $null; IsOnline = $false; Failure = $null; Searches = 0 }

function Update-FpOffer {
    # Reads what the agent offers, in a new session. If it can't, Failure says why.
    param([bool] $Online)
    $FpAgent.Failure = $null
    $FpAgent.IsOnline = $Online
    $FpAgent.Searches++
    try {
        $session = New-FpUpdateSession
        $result = Invoke-FpSearch -Session $session -Criteria 'IsInstalled=0' -Online $Online
        $FpAgent.Offered = Get-FpNewest $result.Updates
        $FpAgent.Session = $session
    } catch {
        $FpAgent.Failure = Get-FpCode (Get-FpHResult $_)
        $FpAgent.Failure.Text += " ($($FpCall.Entry))"
        if ($null -eq $FpAgent.Offered) { $FpAgent.Offered = @{} } # else what was found before is still good
    }
}

function Find-FpChoice {
    # The agent's object of a chosen update: exactly its id and revision. Looks at what the agent has stored first, and
    # then asks the server once. Returns a hashtable: Update, or Why and Detail.
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Choice)
    if ($null -eq $FpAgent.Offered) { Update-FpOffer -Online $false }
    $update = $FpAgent.Offered[$Choice.Id]
    if (($null -eq $update -or [int]$update.Identity.RevisionNumber -ne $Choice.Revision) -and -not $FpAgent.IsOnline) {
        Update-FpOffer -Online $true
        $update = $FpAgent.Offered[$Choice.Id]
    }
    if ($null -eq $update -and $null -ne $FpAgent.Failure) {
        return @{ Update = $null; Why = 'search'; Detail = $FpAgent.Failure.Text; Code = $FpAgent.Failure }
    }
    if ($null -eq $update) {
        $detail = Get-FpSuccessor $Choice
    } else {
        $revision = [int]$update.Identity.RevisionNumber
        if ($revision -eq $Choice.Revision) { return (Test-FpChoice $update) }
        $detail = "revision $revision of it has replaced revision $($Choice.Revision)"
    }
    return @{ Update = $null; Why = 'it is no longer offered'; Detail = $detail }
}

function Get-FpSuccessor {
    # What has become of an update that is not offered any more.
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Choice)
    foreach ($update in $FpAgent.Offered.Values) {
        $older = @(Get-FpItems $update.SupersededUpdateIDs)
        if ($older -contains $Choice.Id) { return "superseded by $($update.Title)" }
    }
    return "$($Choice.Name) was installed, superseded or withdrawn since the assessment"
}

function Test-FpChoice {
    # Whether an update that is offered may be installed.
    param([Parameter(Mandatory = $true, Position = 0)][object] $Update)
    $why, $detail = if ($Update.RebootRequired) { 'it is installed already', 'it waits for a reboot' }
    elseif ($Update.IsHidden) { 'it is on hold', 'it was hidden on the machine since the assessment' }
    elseif ($true -eq (Get-FpBehavior $Update).CanRequestUserInput) {
        'it can not be installed unattended', 'it may ask a person something'
    } elseif (-not $Update.EulaAccepted -and -not (Test-FpParam 'accept_licences')) {
        'its licence terms are not accepted', 'fleetpatch may not accept them'
    }
    if ($why) { return @{ Update = $null; Why = $why; Detail = $detail } }
    return @{ Update = $Update; Why = ''; Detail = '' }
}

function New-FpCollection {
    param([Parameter(Mandatory = $true, Position = 0)][object] $Update)
    $one = New-Object -ComObject 'Microsoft.Update.UpdateColl'
    $null = $one.Add($Update)
    return , $one
}

function Get-FpOutcome {
    # The result of one update, from that of a download or an installation: Ok, Code (null without an error), Reboot.
    param([Parameter(Mandatory = $true, Position = 0)][object] $Result, [bool] $Installs = $false)
    $own = $Result.GetUpdateResult(0)
    $ok = ([int]$own.ResultCode -eq 2 -or [int]$own.ResultCode -eq 3)
    $number = ConvertTo-FpUnsigned $own.HResult
    if ($number -eq 0 -and -not $ok) {
        $number = ConvertTo-FpUnsigned $Result.HResult
        if ($number -eq 2149842978) { $number = [int64]0 } # 0x80240022, all updates failed: of one, it says nothing
    }
    $code = $null
    if ($number -ne 0) { $code = Get-FpCode $number }
    if ($null -eq $code -and -not $ok) {
        $ended = 'failed'
        if ([int]$own.ResultCode -eq 5) { $ended = 'was aborted' }
        $code = @{ Code = [int64]$own.ResultCode; Cause = 'failed'; Retry = 'permanent' }
        $code.Text = "it $ended without an error code"
    }
    if ($ok -and [int]$own.ResultCode -eq 2) { $code = $null }
    $reboot = $false
    if ($Installs) { $reboot = ([bool]$own.RebootRequired -or [bool]$Result.RebootRequired) }
    return @{ Ok = $ok; Code = $code; Reboot = $reboot; Ended = '' }
}

function Get-FpInterruption {
    # Why work that changes nothing is to end now: "stop", "window" or ''.
    param([int64] $StopAt)
    if (Test-FpStopRequested) { return 'stop' }
    if (Test-FpOver $StopAt) { return 'window' }
    return ''
}

function Wait-FpDownload {
    # Downloads one update, in a second thread: the agent's call ends only with the download. When its time is over, it
    # is left alone; it changes nothing, and ends with this process. Its licence terms may be accepted: see
    # Test-FpChoice.
    param([object] $Update, [int64] $StopAt)
    try {
        if (-not $Update.EulaAccepted) { $null = $Update.AcceptEula() }
        $downloader = $FpAgent.Session.CreateUpdateDownloader()
        $downloader.Updates = New-FpCollection $Update
    } catch {
        return @{ Ok = $false; Code = (Get-FpCode (Get-FpHResult $_)); Reboot = $false; Ended = '' }
    }
    $worker = [System.Management.Automation.PowerShell]::Create()
    $null = $worker.AddScript('param($Downloader) $Downloader.Download()').AddArgument($downloader)
    $call = $worker.BeginInvoke()
    while (-not $call.AsyncWaitHandle.WaitOne(500)) {
        $ended = Get-FpInterruption -StopAt $StopAt
        if ($ended -ne '') { return @{ Ok = $false; Code = $null; Reboot = $false; Ended = $ended } }
    }
    try {
        $answers = @($worker.EndInvoke($call))
        if ($worker.Streams.Error.Count -gt 0) { throw $worker.Streams.Error[0].Exception }
        return (Get-FpOutcome $answers[0])
    } catch {
        return @{ Ok = $false; Code = (Get-FpCode (Get-FpHResult $_)); Reboot = $false; Ended = '' }
    } finally {
        $worker.Dispose()
    }
}

function Invoke-FpDownload {
    # Downloads one update, unless it is there. Errors that may pass are tried again, three times in all.
    param([object] $Update, [int64] $StopAt)
    for ($try = 1; $true; $try++) {
        $ended = Get-FpInterruption -StopAt $StopAt
        # Automatic Updates may have downloaded it before anybody has accepted its licence terms
        if ($ended -ne '' -or ($Update.IsDownloaded -and $Update.EulaAccepted)) {
            return @{ Ok = $true; Code = $null; Reboot = $false; Ended = $ended }
        }
        $outcome = Wait-FpDownload -Update $Update -StopAt $StopAt
        if ($outcome.Ok -or $outcome.Ended -ne '' -or $outcome.Code.Retry -ne 'transient') { return $outcome }
        Write-FpLogLine "try $try of the download of $($Update.Title): $($outcome.Code.Text)"
        if ($try -eq 3) { return $outcome }
        Start-Sleep -Seconds ($FpPause * $try)
    }
}

function New-FpInstaller {
    $installer = $FpAgent.Session.CreateUpdateInstaller()
    $installer.AllowSourcePrompts = $false
    $installer.ForceQuiet = $true
    return $installer
}

function Invoke-FpInstallation {
    # Installs one update, once.
    param([object] $Installer, [object] $Update)
    try {
        $Installer.Updates = New-FpCollection $Update
        return (Get-FpOutcome ($Installer.Install()) -Installs $true)
    } catch {
        return @{ Ok = $false; Code = (Get-FpCode (Get-FpHResult $_)); Reboot = $false; Ended = '' }
    }
}
