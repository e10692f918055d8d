# Reports what endangers an installation, or went wrong since one began: records "finding" (check; level: "good", "warn"
# or "block"; message; remedy). It changes nothing, and depends on no language of Windows.
# Parameters: since (seconds since 1970: what the System event log has since then, too).
# Step: assess
# Changes: nothing
# Requires: settings, unfinished_packages

# Windows' servicing notes in the registry that the component store is damaged, when it finds that. This reads the note
# and scans nothing. Windows repairs a store while it installs updates, if it can.
function Write-FpStoreFinding {
    $check = 'packages'
    if ((Get-FpServicingState) -eq 2) {
        $message = 'the component store was not asked: Windows servicing is at work'
        Write-FpFinding -Check $check -Level good -Message $message -Remedy ''
        return
    }
    try {
        $state = [string] (Repair-WindowsImage -Online -CheckHealth -ErrorAction Stop).ImageHealthState
    } catch {
        $message = "whether the component store is damaged is not known: $(Get-FpErrorMessage $_)"
        Write-FpFinding -Check $check -Level good -Message $message -Remedy ''
        return
    }
    if ($state -eq 'Repairable') {
        $message = 'Windows has noted damage in the component store (Repairable), so updates may fail to install'
        $remedy = 'Dism.exe /Online /Cleanup-Image /RestoreHealth there, outside the window: it may take an hour.'
        Write-FpFinding -Check $check -Level warn -Message $message -Remedy $remedy
    } elseif ($state -eq 'NonRepairable') {
        $message = 'the component store is damaged, and Windows can not repair it (NonRepairable)'
        $remedy = 'Repair Windows with its installation medium (setup.exe, keep files and apps), or restore a backup.'
        Write-FpFinding -Check $check -Level block -Message $message -Remedy $remedy
    }
}

$FpUpdateClient = 'Microsoft-Windows-WindowsUpdateClient'
$FpServiceManager = 'Service Control Manager'
# what became of a service, by the number of the event
$FpServiceEvents = @{
    7000 = 'did not start'; 7022 = 'hung while it started'; 7023 = 'ended with an error'
    7024 = 'ended with an error'; 7031 = 'ended unexpectedly'; 7034 = 'ended unexpectedly'
}
$FpStopEvents = 'Microsoft-Windows-Kernel-Power 41', 'EventLog 6008', 'Microsoft-Windows-WER-SystemErrorReporting 1001'

function ConvertTo-FpLocalTime { # Get-WinEvent takes local times
    param([long] $Epoch)
    [System.DateTime]::new(621355968000000000 + $Epoch * 10000000, [System.DateTimeKind]::Utc).ToLocalTime()
}

# Events of the System log, newest first: @{ Name (provider and number); Id; At; Data (name of a value -> text) }
function Get-FpSystemEvent {
    param([int[]] $Id, [long] $From, [long] $Until = 0)
    $filter = @{ LogName = 'System'; Id = $Id; StartTime = ConvertTo-FpLocalTime $From }
    if ($Until) { $filter.EndTime = ConvertTo-FpLocalTime $Until }
    try {
        $found = @(Get-WinEvent -FilterHashtable $filter -MaxEvents 300 -ErrorAction Stop)
    } catch {
        if ($_.FullyQualifiedErrorId -like 'NoMatchingEventsFound*') { return }
        throw
    }
    foreach ($entry in $found) {
        $data = @{}
        foreach ($value in ([xml] $entry.ToXml()).SelectNodes("//*[local-name()='Data']")) {
            $data[[string] $value.GetAttribute('Name')] = [string] $value.InnerText
        }
        @{ Name = "$($entry.ProviderName) $($entry.Id)"; Id = [int] $entry.Id; At = $entry.TimeCreated; Data = $data }
    }
}

function Write-FpEventFinding {
    param([string] $Message, [object[]] $Events)
    $invariant = [System.Globalization.CultureInfo]::InvariantCulture
    $last = ([datetime] $Events[0].At).ToUniversalTime().ToString('yyyy-MM-dd HH:mm:ss', $invariant)
    $numbers = (@($Events | ForEach-Object { $_.Name } | Sort-Object -Unique)) -join ', '
    Write-FpFinding -Check 'event log' -Level warn -Message "$Message ($numbers; last at $last UTC)" -Remedy (
        'Read the System event log of that time on the machine.')
}

# A failed installation that succeeded later is none.
function Write-FpUpdateEvents {
    param([object[]] $Events)
    $succeeded = @{}
    $told = @{}
    foreach ($entry in $Events) {
        $id = [string] $entry.Data['updateGuid']
        if ($entry.Name -eq "$FpUpdateClient 19") { $succeeded[$id] = $true }
        if ($entry.Name -ne "$FpUpdateClient 20" -or $succeeded[$id] -or $told[$id] -or $told.Count -ge 10) { continue }
        $told[$id] = $true
        $message = "Windows could not install $($entry.Data['updateTitle']): $($entry.Data['errorCode'])"
        Write-FpEventFinding -Message $message -Events $entry
    }
}

function Get-FpServiceKey {
    param([object] $Entry)
    "$($FpServiceEvents[$Entry.Id]): $($Entry.Data['param1'])"
}

# What the log also has of the 30 days before is how this machine is.
function Write-FpServiceEvents {
    param([object[]] $Events, [long] $Since)
    $mine = @($Events | Where-Object { $_.Name -like "$FpServiceManager *" })
    if (-not $mine.Count) { return }
    $usual = @{}
    $ids = [int[]] @($FpServiceEvents.Keys)
    foreach ($entry in @(Get-FpSystemEvent -Id $ids -From ($Since - 30 * 86400) -Until ($Since - 1))) {
        if ($entry.Name -like "$FpServiceManager *") { $usual[(Get-FpServiceKey $entry)] = $true }
    }
    $told = @{}
    foreach ($entry in $mine) {
        $key = Get-FpServiceKey $entry
        if ($usual[$key] -or $told[$key] -or $told.Count -ge 10) { continue }
        $told[$key] = $true
        $same = @($mine | Where-Object { (Get-FpServiceKey $_) -eq $key })
        $times = if ($same.Count -gt 1) { ", $($same.Count) times" } else { '' }
        Write-FpEventFinding -Message "a service $key$times" -Events $same
    }
}

function Write-FpStopEvents {
    param([object[]] $Events)
    $stops = @($Events | Where-Object { $_.Name -in $FpStopEvents })
    if (-not $stops.Count) { return }
    $why = ''
    foreach ($entry in $stops) {
        if ($entry.Id -eq 1001) { $why = ": bug check $($entry.Data['param1'])" }
        if ($entry.Id -eq 41 -and -not $why -and $entry.Data['BugcheckCode'] -notin $null, '', '0') {
            $why = ": bug check $($entry.Data['BugcheckCode'])"
        }
    }
    Write-FpEventFinding -Message "Windows stopped without a shutdown$why" -Events $stops
}

function Write-FpEventFindings {
    param([long] $Since)
    try {
        $ids = [int[]] (@(19, 20, 41, 1001, 6008) + @($FpServiceEvents.Keys))
        $events = @(Get-FpSystemEvent -Id $ids -From $Since)
        Write-FpStopEvents -Events $events
        Write-FpServiceEvents -Events $events -Since $Since
        Write-FpUpdateEvents -Events $events
    } catch {
        $message = "the System event log can not be read: $(Get-FpErrorMessage $_)"
        Write-FpFinding -Check 'event log' -Level good -Message $message -Remedy ''
    }
}

if (Test-FpParam 'since') { Write-FpEventFindings -Since ([long] (Get-FpParam 'since')) }
Write-FpStoreFinding
