# Functions that read from the event log who has ordered a shutdown or restart of Windows.

# What an event says, by its own values: its message is empty where Windows lacks the texts of the provider, or those of
# the login's language. Those of 1074: program, computer, reason, code, kind of shutdown, comment, user.
function Get-FpEventWords {
    param([object] $Entry)
    $values = @()
    try {
        $data = ([xml] $Entry.ToXml()).SelectNodes("//*[local-name()='Data']")
        $values = @(foreach ($value in $data) { ("$($value.InnerText)" -replace '\s+', ' ').Trim() })
    } catch {
        Write-Verbose -Message "values of event $($Entry.Id): $_"
    }
    if ($Entry.Id -eq 1074 -and $values.Count -ge 7) {
        return "$($values[6]) has ordered it ($($values[4])) with $($values[0]): $($values[5])".TrimEnd(': ')
    }
    $told = @($values | Where-Object { $_ }) -join ', '
    if ($told) { $told } else { 'Windows does not say by whom' }
}

# The last event of the system about shutdowns, of these kinds: 1074 (somebody has ordered one), 1075 (it was aborted),
# 1073 (it failed), 6005 (Windows has started): @{ Id; At (the machine's time); Words }, or nothing.
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
    $words = Get-FpEventWords -Entry $last[0]
    @{ Id = $last[0].Id; At = ConvertTo-FpEpoch -Time $last[0].TimeCreated; Words = $words }
}

# The event of who has ordered a shutdown in this boot that may be at work or still to come, or nothing. Windows tells
# no program whether one has begun, or when a scheduled one will. An hour later, an order that has led to nothing does
# not count.
function Find-FpShutdown {
    $last = Get-FpShutdownEvent -Kinds 1073, 1074, 1075, 6005
    if ($null -eq $last -or $last.Id -ne 1074) { return }
    if ((ConvertTo-FpEpoch -Time (Get-FpSystemTime)) - $last.At -gt 3600) { return }
    $last
}
