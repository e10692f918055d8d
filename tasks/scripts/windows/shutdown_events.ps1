# Functions that read from the event log who has ordered a shutdown or restart of Windows.

# The last event of the system about shutdowns, of these kinds: 1074 (somebody has ordered one), 1075 (it was aborted),
# 1073 (it failed), 6005 (Windows has started), or nothing. At is the machine's time.
function Get-FpShutdownEvent {
    param([long] $Since = 0, [int[]] $Kinds = @(1074, 1075))
    $filter = @{ LogName = 'System'; ProviderName = 'User32', 'EventLog'; Id = $Kinds }
    if ($Since) {
        $begin = [System.DateTime]::new(621355968000000000 + $Since * 10000000, [System.DateTimeKind]::Utc)
        $filter.StartTime = $begin.ToLocalTime()
    }
    try {
        $last = @(Get-WinEvent -FilterHashtable $filter -MaxEvents 1 -ErrorAction Stop)
    } catch {
        return # there is none, or the log can't be read
    }
    if (-not $last.Count) { return }
    @{
        Id = $last[0].Id; Message = (([string] $last[0].Message) -replace '\s+', ' ').Trim()
        At = ConvertTo-FpEpoch -Time $last[0].TimeCreated
    }
}

# Who has ordered a shutdown in this boot that may be at work or still to come, or ''. Windows tells no program whether
# one has begun, or when a scheduled one will. An hour later, an order that has led to nothing does not count.
function Find-FpShutdown {
    $last = Get-FpShutdownEvent -Kinds 1073, 1074, 1075, 6005
    if ($null -eq $last -or $last.Id -ne 1074 -or (ConvertTo-FpEpoch -Time (Get-FpSystemTime)) - $last.At -gt 3600) {
        return ''
    }
    $last.Message
}
