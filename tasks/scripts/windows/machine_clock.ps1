# Functions about the machine's time and its boot. They need prelude.ps1.
#
# A clock can be set back while an order waits. The time since the boot can't. An order's parameter "clock" has the boot
# id and the clock's time at the boot, from the last comparison of the two. In a job, the clock counts from its begin
# on. Without both, only the clock counts.

$FpBootKey = 'HKLM:\SOFTWARE\FleetPatch\Boot'
$FpClock = @{ Watch = [System.Diagnostics.Stopwatch]::StartNew(); Floor = [double] 0 }

function Get-FpEpoch { # a time as seconds since 1970 (UTC); .NET 4.5 has no function for it
    param([System.DateTime] $Time)
    $begin = [System.DateTime]::new(1970, 1, 1, 0, 0, 0, [System.DateTimeKind]::Utc)
    ($Time.ToUniversalTime() - $begin).TotalSeconds
}

function Get-FpExactNow { # seconds since 1970 with their fraction: the later one of the clock and of the time that has passed
    $now = Get-FpEpoch -Time (Get-Date)
    if ($FpClock.Floor -le 0) { return $now }
    [System.Math]::Max($now, $FpClock.Floor + $FpClock.Watch.Elapsed.TotalSeconds)
}

function Get-FpNow { # whole seconds since 1970
    [long] [System.Math]::Floor((Get-FpExactNow))
}

function Get-FpUptime { # seconds since the boot, or nothing; Windows moves the time of the boot when its clock is set
    try { $system = Get-CimInstance -ClassName Win32_OperatingSystem -ErrorAction Stop } catch { return }
    ($system.LocalDateTime - $system.LastBootUpTime).TotalSeconds
}

function Read-FpBootId {
    $boot = Get-ItemProperty -LiteralPath $FpBootKey -ErrorAction SilentlyContinue
    if ($null -eq $boot -or $null -eq $boot.PSObject.Properties['Id']) { return '' }
    [string] $boot.Id
}

# The boot id: a random number in a registry key that vanishes with the boot. The first script of a boot creates it. A
# login without administrator rights can't: '' then.
function Get-FpBootId {
    $id = Read-FpBootId
    if ($id) { return $id }
    $mutex = $null
    $held = $false
    try {
        # two scripts may be the first ones of a boot at the same time
        try {
            $mutex = [System.Threading.Mutex]::new($false, 'Global\FleetPatchBoot')
            $held = $mutex.WaitOne(10000)
        } catch [System.Threading.AbandonedMutexException] {
            $held = $true
        } catch {
            Write-Verbose -Message "no mutex: $_" # another account's; then the other script has created the id just now, or will within an instant
            Start-Sleep -Milliseconds 500
        }
        if (-not (Read-FpBootId)) {
            try {
                New-FpVolatileKey -Path 'SOFTWARE\FleetPatch\Boot'
                Set-ItemProperty -LiteralPath $FpBootKey -Name Id -Value ([System.Guid]::NewGuid().ToString()) -ErrorAction Stop
            } catch {
                Write-Verbose -Message "no boot id: $_"
            }
        }
        Read-FpBootId
    } finally {
        if ($held) { $mutex.ReleaseMutex() }
        if ($null -ne $mutex) { $mutex.Dispose() }
    }
}

function Initialize-FpClock { # from now on, a clock that is set back has no effect
    $FpClock.Floor = Get-FpExactNow
    $FpClock.Watch.Restart()
    $told = Get-FpParam -Name clock
    if ($told -notmatch '^(\S+) ([0-9]{1,12})$') { return }
    $boot, $base = $Matches[1], [double] $Matches[2]
    if ($boot -ne (Get-FpBootId)) { return }
    $uptime = Get-FpUptime
    if ($null -ne $uptime) { $FpClock.Floor = [System.Math]::Max($FpClock.Floor, $base + $uptime) }
}

# In a job: whether nothing more may begin, because a stop was requested, or no process can follow the job.
function Test-FpStopRequested {
    if (-not $FpJobDirectory) { return $false }
    if (Test-Path -LiteralPath (Join-Path -Path $FpJobDirectory -ChildPath 'stop')) { return $true }
    -not (Test-Path -LiteralPath (Join-Path -Path $FpJobDirectory -ChildPath 'meta.json'))
}

function Get-FpStopReason { # the run for which the job is to stop, with who started it; '' for a person's request
    if (-not $FpJobDirectory) { return '' }
    try {
        [System.IO.File]::ReadAllText((Join-Path -Path $FpJobDirectory -ChildPath 'stop')).Trim()
    } catch {
        ''
    }
}

Initialize-FpClock
