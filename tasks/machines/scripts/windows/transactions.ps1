# Functions for a job's transactions and their records (see PackageManager), as transactions.sh for other systems.
# Parameters: work ("stage", "install", "repair"), numbers (list), tx_N_latest_start and tx_N_stop_at (epoch seconds;
# when a download is ended, by default the latest start), lock_wait_seconds.
# Requires: shutdown_events, stop_request

$FpNever = [int64]-1 # a time that is over: without a known end, nothing begins

function Get-FpTime {
    # A time of a parameter.
    param([Parameter(Mandatory = $true)][string] $Name, [int64] $Default = $FpNever)
    $text = Get-FpParam $Name
    if ($text -match '\A[0-9]{1,12}\z') { return [int64]$text }
    return $Default
}

function Test-FpOver {
    param([Parameter(Mandatory = $true, Position = 0)][int64] $Time)
    return ((Get-FpNow) -gt $Time)
}

function Write-FpLogLine {
    # A line of the job's log, for people.
    param([Parameter(Mandatory = $true, Position = 0)][string] $Text)
    Write-Information -MessageData $Text -InformationAction Continue
}

function Write-FpDownloadStarted {
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Part)
    Write-FpRecord 'download_started' ([ordered]@{ number = $Part.Number; at = (Get-FpNow) })
}

function Write-FpTransactionStarted {
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Part)
    Write-FpRecord 'transaction_started' ([ordered]@{ number = $Part.Number; at = (Get-FpNow) })
}

function Write-FpTransactionEnded {
    param(
        [Parameter(Mandatory = $true, Position = 0)][hashtable] $Part,
        [int64] $ExitCode = 0,
        [string] $Cause = '',
        [string] $Message = '',
        [string] $Undo = '',
        [bool] $Reboot = $false
    )
    $fields = [ordered]@{ number = $Part.Number; at = (Get-FpNow) }
    $fields.exit_code = $ExitCode
    $fields.cause = $Cause
    $fields.error = $Message
    if ($Undo -ne '') { $fields.undo = $Undo }
    $fields.reboot_required = $Reboot
    Write-FpRecord 'transaction_ended' $fields
    if ($Message -ne '') { Write-FpLogLine $Message }
}

function Write-FpNotAttempted {
    # If the job was to stop for another run, the record says so.
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Part, [string] $Why, [string] $Detail = '')
    $by = ''
    if ($Why -eq 'stop') { $by = Get-FpStopReason }
    if ($by -ne '') {
        $Why = 'preempted'
        $Detail = $by
    }
    Write-FpRecord 'not_attempted' ([ordered]@{
            number = $Part.Number; at = (Get-FpNow); latest_start = $Part.Latest; why = $Why; detail = $Detail
        })
    Write-FpLogLine "not begun: $Why $Detail"
}

function Write-FpProgress {
    param(
        [Parameter(Mandatory = $true, Position = 0)][hashtable] $Part,
        [int] $Percent,
        [string] $Update,
        [string] $Action
    )
    $fields = [ordered]@{ number = $Part.Number; percent = $Percent; update = $Update; action = $Action }
    Write-FpRecord 'progress' $fields
    Write-FpLogLine "${Action}: $Update"
}

function Write-FpNotBegun {
    # The record of work that time or a stop has ended before anything was changed: $Ended is "window" or "stop".
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Part, [string] $Ended)
    if ($Ended -eq 'stop') { Write-FpNotAttempted $Part -Why 'stop' -Detail 'asked to stop' }
    else { Write-FpNotAttempted $Part -Why 'download' }
}

function Test-FpHindered {
    # Whether nothing more may begin on this machine; then with the record.
    param([Parameter(Mandatory = $true, Position = 0)][hashtable] $Part)
    if (Test-FpStopRequested) { Write-FpNotAttempted $Part -Why 'stop' -Detail 'asked to stop'; return $true }
    if ($FpState['IsFull']) {
        Write-FpNotAttempted $Part -Why 'the disk is full' -Detail 'there was no room for the records of this job'
        return $true
    }
    $order = Find-FpShutdown
    if ($null -eq $order) { return $false }
    Write-FpNotAttempted $Part -Why 'a shutdown of Windows was ordered' -Detail $order.Words
    return $true
}

function Invoke-FpTransactions {
    # One after the other; before each: may anything begin? is there time? $Work gets a hashtable with
    # Number, Latest and StopAt.
    param([Parameter(Mandatory = $true, Position = 0)][scriptblock] $Work)
    Set-FpClockBase
    foreach ($number in @(Get-FpListParam 'numbers')) {
        $latest = Get-FpTime -Name "tx_${number}_latest_start"
        $stopAt = Get-FpTime -Name "tx_${number}_stop_at" -Default $latest
        $part = @{ Number = [int]$number; Latest = $latest; StopAt = $stopAt }
        if (Test-FpHindered $part) { continue }
        if (Test-FpOver $latest) { Write-FpNotAttempted $part -Why 'window' }
        else { & $Work $part }
    }
    Write-FpRecord 'finished' ([ordered]@{ at = (Get-FpNow) })
}
