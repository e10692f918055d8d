# More of the start of every script: times, the identity of a boot, and what a job needs.
# Step: connect
# Changes: nothing
# Requires: answers

# ---- parameters

function ConvertFrom-FpParamText {
    # The parameters of another script (a job's params.json), for the argument -From of the next functions.
    param([Parameter(Mandatory = $true)][string] $Text)
    return (ConvertFrom-Json -InputObject $Text)
}

function Test-FpParam {
    # Whether a parameter has a value.
    param([Parameter(Mandatory = $true, Position = 0)][string] $Name, [object] $From = $FpParams)
    return ((Get-FpParam -Name $Name -From $From) -ne '')
}

# ---- times, and the identity of a boot

function ConvertTo-FpEpoch {
    # Whole seconds since 1970 (UTC). A time without a zone is UTC: the Update Agent has such ones. Null stays null.
    param([Parameter(Position = 0)][AllowNull()][object] $Time)
    if ($null -eq $Time) { return $null }
    $moment = [datetime]$Time
    if ($moment.Kind -eq [System.DateTimeKind]::Local) { $moment = $moment.ToUniversalTime() }
    return [int64][System.Math]::Floor(($moment.Ticks - 621355968000000000) / 10000000)
}

function Get-FpUptime {
    # Whole seconds of a clock that nobody can set; it counts from the boot, also while a machine is suspended.
    $ticks = [System.Diagnostics.Stopwatch]::GetTimestamp()
    return [int64][System.Math]::Floor($ticks / [System.Diagnostics.Stopwatch]::Frequency)
}

function Get-FpSystemTime { # by the machine's clock, which may be set at any moment
    return [datetime]::UtcNow
}

function Set-FpClockBase {
    # From now on, a clock that is set back has no effect on Get-FpNow.
    $FpState.ClockBase = (ConvertTo-FpEpoch -Time (Get-FpSystemTime)) - (Get-FpUptime)
}

function Get-FpNow {
    # The time in seconds since 1970: by the clock, or by the clock base and the uptime if that is later. The parameter
    # "clock" is the boot's id and a clock base that was measured in that boot.
    if ($null -eq $FpState.ClockBase) {
        $FpState.ClockBase = ''
        $told = @((Get-FpParam -Name 'clock') -split ' ')
        if ($told.Count -eq 2 -and $told[1] -match '\A[0-9]{1,15}\z' -and $told[0] -eq (Get-FpBootId)) {
            $FpState.ClockBase = [int64]$told[1]
        }
    }
    $now = ConvertTo-FpEpoch -Time (Get-FpSystemTime)
    if ($FpState.ClockBase -isnot [string]) { $now = [System.Math]::Max($now, $FpState.ClockBase + (Get-FpUptime)) }
    return [int64]$now
}

function New-FpVolatileKey {
    # A key below HKEY_LOCAL_MACHINE that is gone after the next boot. If it exists, it is kept. Its parent must exist:
    # it would be made volatile, too.
    param([Parameter(Mandatory = $true, Position = 0)][string] $SubKey)
    $root = [Microsoft.Win32.RegistryKey]::OpenBaseKey(
        [Microsoft.Win32.RegistryHive]::LocalMachine, [Microsoft.Win32.RegistryView]::Registry64)
    try {
        $access = [Microsoft.Win32.RegistryKeyPermissionCheck]::ReadWriteSubTree
        $key = $root.CreateSubKey($SubKey, $access, [Microsoft.Win32.RegistryOptions]::Volatile)
        if ($null -ne $key) { $key.Dispose() }
    } finally { $root.Dispose() }
}

function Get-FpBootId {
    # A GUID that stays the same until the next boot. The first caller of a boot makes it, with administrator rights.
    $path = 'HKLM:\SOFTWARE\FleetPatch\Boot'
    if (Test-Path -LiteralPath $path) {
        $known = (Get-Item -LiteralPath $path).GetValue('Id', '')
        if ($known -ne '') { return [string]$known }
    }
    # one after the other: two callers must not make two ids
    $mutex = $null
    $owned = $false
    try {
        try {
            $mutex = New-Object -TypeName System.Threading.Mutex -ArgumentList $false, 'Global\FleetPatch-Boot'
            $owned = $mutex.WaitOne(20000)
        } catch {
            $inner = $_.Exception.GetBaseException()
            # else another account has the mutex, and makes the id. Any user may also take its name, even for something
            # that is no mutex: that must not keep the machine from having an id.
            if ($inner -is [System.Threading.AbandonedMutexException]) { $owned = $true }
            else { Start-Sleep -Seconds 2 }
        }
        if (-not (Test-Path -LiteralPath $path)) {
            if (-not (Test-Path -LiteralPath 'HKLM:\SOFTWARE\FleetPatch')) {
                [void](New-Item -Path 'HKLM:\SOFTWARE' -Name 'FleetPatch')
            }
            New-FpVolatileKey -SubKey 'SOFTWARE\FleetPatch\Boot'
        }
        $known = (Get-Item -LiteralPath $path).GetValue('Id', '')
        if ($known -eq '') {
            $known = [guid]::NewGuid().ToString()
            [void](New-ItemProperty -LiteralPath $path -Name 'Id' -Value $known -PropertyType String)
        }
        return [string]$known
    } finally {
        if ($owned) { $mutex.ReleaseMutex() }
        if ($null -ne $mutex) { $mutex.Dispose() }
    }
}

# ---- jobs

function Write-FpJobLine {
    # One record, as a line of the job's events.
    param([Parameter(Mandatory = $true)][string] $Json)
    $bytes = [System.Text.Encoding]::ASCII.GetBytes($Json + "`n")
    $path = Join-Path -Path $FpJobDirectory -ChildPath 'events'
    # others may read it, and remove it, meanwhile
    $share = [System.IO.FileShare]::ReadWrite -bor [System.IO.FileShare]::Delete
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        $file = $null
        $size = [int64]0
        try {
            $file = [System.IO.FileStream]::new(
                $path, [System.IO.FileMode]::Append, [System.IO.FileAccess]::Write, $share, 1) # without a buffer
            $size = $file.Length
            $file.Write($bytes, 0, $bytes.Length)
            $file.Flush($true) # to the disk: it must survive a power cut
            return
        } catch [System.IO.DirectoryNotFoundException] {
            throw
        } catch {
            # an error here would end the job; a virus scanner or a backup may have the file, or the disk is full
            if ($null -ne $file) {
                $FpState.IsFull = $true
                [System.IO.File]::Delete((Join-Path -Path $FpJobDirectory -ChildPath 'reserve'))
                try { $file.SetLength($size) } catch { Write-Verbose -Message "half a line remains: $_" }
            }
            if ($watch.ElapsedMilliseconds -gt 10000) { throw }
            Start-Sleep -Milliseconds 100
        } finally {
            if ($null -ne $file) { $file.Dispose() }
        }
    }
}

function Test-FpStopRequested {
    # In a job: whether nothing more may begin: a stop was requested, or its folder is gone and nothing can be recorded.
    if ($FpJobDirectory -eq '') { return $false }
    return ((Test-Path -LiteralPath (Join-Path -Path $FpJobDirectory -ChildPath 'stop')) -or
        -not (Test-Path -LiteralPath (Join-Path -Path $FpJobDirectory -ChildPath 'meta.json')))
}
