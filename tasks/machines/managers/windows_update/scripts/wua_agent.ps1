# Functions that ask the Windows Update Agent (WUA). They decide nothing: all codes and ids are sent as they are.
# Most builds of Windows let a login over the network search, and read the history. Some refuse it a search, or even the
# session (0x80070005). Everything else needs a job, which runs as SYSTEM.
# Records of failed calls have entry: what was called last, and denied: whether it was refused.

$FpAccessDenied = 2147942405 # 0x80070005
$FpCall = @{ Entry = ''; Session = $null }

function New-FpUpdateSession {
    $FpCall.Entry = 'New-Object -ComObject Microsoft.Update.Session'
    $session = New-Object -ComObject 'Microsoft.Update.Session'
    $session.ClientApplicationID = 'fleetpatch'
    try { $session.UserLocale = 1033 } catch { Write-Verbose -Message "titles stay in the system's language: $_" }
    return $session
}

function Get-FpUpdateSession { # one for all questions of a script
    if ($null -eq $FpCall.Session) { $FpCall.Session = New-FpUpdateSession }
    return $FpCall.Session
}

function Get-FpCallError { # of the call that has failed: what records say of it
    param([Parameter(Mandatory = $true, Position = 0)][System.Management.Automation.ErrorRecord] $Failure)
    $code = Get-FpHResult $Failure
    return [ordered]@{
        hresult = $code; message = (Get-FpErrorMessage $Failure); entry = $FpCall.Entry
        denied = ($code -eq $FpAccessDenied)
    }
}

function Get-FpItems {
    # The items of a collection of the agent, one by one: write @(Get-FpItems COLLECTION). null has none.
    param([Parameter(Position = 0)][AllowNull()][object] $Collection)
    if ($null -eq $Collection) { return }
    for ($index = 0; $index -lt $Collection.Count; $index++) { $Collection.Item($index) }
}

function Get-FpNewest {
    # The updates of a collection by their ids. Of an update that is listed twice, the newest revision.
    param([Parameter(Position = 0)][AllowNull()][object] $Collection)
    $newest = [ordered]@{}
    foreach ($update in @(Get-FpItems $Collection)) {
        $id = ([string]$update.Identity.UpdateID).ToLowerInvariant()
        $known = $newest[$id]
        if ($null -eq $known -or [int]$known.Identity.RevisionNumber -lt [int]$update.Identity.RevisionNumber) {
            $newest[$id] = $update
        }
    }
    return $newest
}

function ConvertTo-FpUnsigned { # a code without its sign
    param([Parameter(Position = 0)][object] $Code)
    return ([int64]$Code -band 4294967295)
}

function Invoke-FpSearch {
    # Finds all updates. By default the agent leaves out what another update supersedes that is found, also a preview or
    # a hidden one: then a security update is missing, and nothing says so.
    param([object] $Session, [string] $Criteria, [bool] $Online)
    $FpCall.Entry = 'CreateUpdateSearcher'
    $searcher = $Session.CreateUpdateSearcher()
    $searcher.Online = $Online
    $searcher.IncludePotentiallySupersededUpdates = $true
    $FpCall.Entry = 'Search'
    return $searcher.Search($Criteria)
}

function Find-FpUpdates {
    # Searches, writes the records "search" {criteria, online, result_code, hresult, message, entry, denied, count,
    # seconds} and "search_warning" {hresult, message}, and returns the updates one by one. Offline, the agent answers
    # with what its last online search has stored, and checks again what is installed. The agent gives up an exchange
    # with a large WSUS after some trips (0x80244010) and continues at the next search, so that is repeated.
    param([Parameter(Mandatory = $true)][string] $Criteria, [bool] $Online = $false)
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    $fields = [ordered]@{
        criteria = $Criteria; online = $Online; result_code = $null; hresult = 0; message = ''; entry = ''
        denied = $false; count = 0; seconds = 0
    }
    $result = $null
    for ($try = 0; $try -lt 5 -and $null -eq $result; $try++) {
        try {
            $result = Invoke-FpSearch -Session (Get-FpUpdateSession) -Criteria $Criteria -Online $Online
        } catch {
            $failed = Get-FpCallError $_
            foreach ($name in $failed.Keys) { $fields[$name] = $failed[$name] }
            if ($fields.hresult -ne 2149859344) { break } # 0x80244010
        }
    }
    $fields.seconds = [int64]$watch.Elapsed.TotalSeconds
    if ($null -eq $result) {
        Write-FpRecord 'search' $fields
        return
    }
    $updates = @((Get-FpNewest $result.Updates).Values)
    $fields.result_code = [int]$result.ResultCode
    $fields.hresult = 0
    $fields.message = ''
    $fields.entry = ''
    $fields.count = $updates.Count
    foreach ($warning in @(Get-FpItems $result.Warnings)) {
        Write-FpRecord 'search_warning' ([ordered]@{
                hresult = (ConvertTo-FpUnsigned $warning.HResult)
                context = [int]$warning.Context
                message = [string]$warning.Message
            })
    }
    Write-FpRecord 'search' $fields
    return $updates
}

function Get-FpBehavior { # the InstallationBehavior of an update, which bundles and drivers may lack: then all is null
    param([Parameter(Mandatory = $true, Position = 0)][object] $Update)
    $behavior = $null
    try { $behavior = $Update.InstallationBehavior } catch { Write-Verbose -Message "$_" }
    if ($null -ne $behavior) { return $behavior }
    return @{ Impact = $null; RebootBehavior = $null; CanRequestUserInput = $null }
}

function Write-FpUpdate {
    # The record "update": what the agent knows of an update.
    param([Parameter(Mandatory = $true, Position = 0)][object] $Update)
    $behavior = Get-FpBehavior $Update
    Write-FpRecord 'update' ([ordered]@{
            id = ([string]$Update.Identity.UpdateID).ToLowerInvariant()
            revision = [int]$Update.Identity.RevisionNumber
            title = [string]$Update.Title
            kbs = @(Get-FpItems $Update.KBArticleIDs)
            categories = @(Get-FpItems $Update.Categories | ForEach-Object -Process { [string]$_.CategoryID })
            severity = [string]$Update.MsrcSeverity
            cves = @(Get-FpItems $Update.CveIDs)
            bulletins = @(Get-FpItems $Update.SecurityBulletinIDs)
            superseded = @(Get-FpItems $Update.SupersededUpdateIDs)
            type = [int]$Update.Type
            installed = [bool]$Update.IsInstalled
            hidden = [bool]$Update.IsHidden
            downloaded = [bool]$Update.IsDownloaded
            browse_only = [bool]$Update.BrowseOnly
            reboot_required = [bool]$Update.RebootRequired
            eula_accepted = [bool]$Update.EulaAccepted
            max_bytes = [int64]$Update.MaxDownloadSize
            published = (ConvertTo-FpEpoch $Update.LastDeploymentChangeTime)
            impact = [System.Nullable[int]]$behavior.Impact
            reboot_behavior = [System.Nullable[int]]$behavior.RebootBehavior
            user_input = [System.Nullable[bool]]$behavior.CanRequestUserInput
            deadline = (ConvertTo-FpEpoch $Update.Deadline)
        })
}

$FpInstalledBefore = @{} # the ids of the updates whose installation the history has, as keys

function Write-FpHistory {
    # Records "history" of the newest entries, of these updates only if ids are given; or "history_error" {hresult,
    # message, entry, denied}. Definitions of Defender (KB2267602), up to 24 a day, do not count towards Newest: else
    # the month's update would drop out. The history is lost when somebody clears the agent's data.
    param([AllowEmptyCollection()][string[]] $Ids = @(), [int] $Newest = 500)
    try {
        $session = Get-FpUpdateSession
        $FpCall.Entry = 'CreateUpdateSearcher'
        $searcher = $session.CreateUpdateSearcher()
        $FpCall.Entry = 'GetTotalHistoryCount'
        $count = [int]$searcher.GetTotalHistoryCount()
        if ($count -eq 0) { return }
        $FpCall.Entry = 'QueryHistory'
        $entries = @()
        $others = 0
        for ($start = 0; $start -lt [System.Math]::Min($count, 3000) -and $others -lt $Newest; $start += 500) {
            $page = $searcher.QueryHistory($start, [System.Math]::Min($count - $start, 500))
            foreach ($entry in @(Get-FpItems $page)) {
                if ([string]$entry.Title -notlike '*KB2267602*') { $others++ } elseif ($start -ge $Newest) { continue }
                if ($others -le $Newest) { $entries += $entry }
            }
        }
    } catch {
        Write-FpRecord 'history_error' (Get-FpCallError $_)
        return
    }
    foreach ($entry in $entries) {
        $identity = $entry.UpdateIdentity
        if ($null -eq $identity) { continue }
        $id = ([string]$identity.UpdateID).ToLowerInvariant()
        if ($id -notmatch '\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z') { continue }
        if ($Ids.Count -gt 0 -and $Ids -notcontains $id) { continue }
        if ([int]$entry.Operation -eq 1 -and 2, 3 -contains [int]$entry.ResultCode) { $FpInstalledBefore[$id] = $true }
        Write-FpRecord 'history' ([ordered]@{
                id = $id
                revision = [int]$identity.RevisionNumber
                at = (ConvertTo-FpEpoch $entry.Date)
                operation = [int]$entry.Operation
                result_code = [int]$entry.ResultCode
                hresult = (ConvertTo-FpUnsigned $entry.HResult)
                title = [string]$entry.Title
                client = [string]$entry.ClientApplicationID
            })
    }
}
