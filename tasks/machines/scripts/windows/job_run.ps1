# Runs one job to its end. The task sets $FpJobDirectory, the job's folder, and runs this text; it has no prelude.
# It takes no parameters. The job's own records go to its file "events", all other output to "log".
# Requires: job_files, task_scheduler

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
Set-Variable -Name FpJobs -Value (Split-Path -Parent -Path $FpJobDirectory) # read by the functions of job_files
$FpId = Split-Path -Leaf -Path $FpJobDirectory
$FpReads = Test-FpReads -Folder $FpJobDirectory

function Get-FpJobFile {
    param([string] $Name)
    Join-Path -Path $FpJobDirectory -ChildPath $Name
}

function Get-FpSecond { # whole seconds since 1970
    [long] [System.Math]::Floor(([System.DateTime]::UtcNow.Ticks - 621355968000000000) / 10000000)
}

function Add-FpOwnMeta {
    $start = ''
    try {
        $start = [string] (Get-Process -Id $PID).StartTime.ToUniversalTime().Ticks
    } catch {
        Write-Verbose -Message "$_"
    }
    Add-FpMeta -Folder $FpJobDirectory -Content ([ordered]@{ pid = $PID; start = $start; began = Get-FpSecond })
}

# Without a start that waits for the job (its connection was lost, or the machine was slow): whether it may begin still.
# An attempt that has taken the run over since then would not know of it, and neither would another run.
function Test-FpLateStart {
    if ($FpReads) { return '' }
    $params = Read-FpJson -Path (Get-FpJobFile -Name 'params.json')
    $run = Get-FpField -Object $params -Name lock_run
    if ($run) {
        $void = Test-FpLock -Run $run -Attempt (ConvertTo-FpNumber (Get-FpField -Object $params -Name lock_attempt))
        if ($void.Why) { return $void.Why }
    }
    $busy = Find-FpRunningJob -Except $FpId
    if ($busy) { "job $busy is running" } else { '' }
}

# Creates the job's meta.json: of two starts, and of a withdrawal, only one does. Returns whether the job begins.
function Confirm-FpBegin {
    $launching, $begun = (Get-FpJobFile -Name 'launching'), (Get-FpJobFile -Name 'begun')
    $isMade = $false
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    while ($watch.Elapsed.TotalSeconds -lt 60) {
        if (-not $isMade -and (Test-FpHeld -Path $launching)) { # its start waits, and keeps the lock
            if (-not (Add-FpOwnMeta)) { return $false }
            $isMade = $true
        }
        # its start will see, or has seen, that the job has begun; else it may have ended before the job's meta.json
        if ($isMade -and ((Test-FpHeld -Path $launching) -or [System.IO.File]::Exists($begun))) { return $true }
        $mutex = Enter-FpFile -Path (Get-FpMutexPath -Reads $FpReads) -Seconds 0
        if ($null -eq $mutex) {
            Start-Sleep -Milliseconds 50
            continue
        }
        try {
            if (-not $isMade -and [System.IO.File]::Exists((Get-FpJobFile -Name 'meta.json'))) { return $false }
            $why = Test-FpLateStart
            if (-not $why) { return ($isMade -or (Add-FpOwnMeta)) }
            Save-FpText -Path (Get-FpJobFile -Name 'note') -Text "it came too late to begin: $why`n"
            if ($isMade) { [System.IO.File]::Delete((Get-FpJobFile -Name 'meta.json')) }
            return $false
        } finally {
            $mutex.Dispose()
        }
    }
    if ($isMade) { return $true }
    Save-FpText -Path (Get-FpJobFile -Name 'note') -Text "another process kept the lock for a minute`n"
    $false
}

# Keeps files of the job open while it runs, so that Windows refuses to delete them or their folder. Without its folder,
# a job would look like none. Another job would begin beside it, and what the first one installs would not be known.
function Open-FpFiles { # returns their streams
    foreach ($name in 'meta.json', 'params.json', 'label', 'events', 'log') {
        try {
            $mode, $access = [System.IO.FileMode]::OpenOrCreate, [System.IO.FileAccess]::Read
            [System.IO.File]::Open((Get-FpJobFile -Name $name), $mode, $access, [System.IO.FileShare]::ReadWrite)
        } catch {
            Write-Verbose -Message "${name}: $_"
        }
    }
}

# Takes room on the disk, while there is some, for the exit code (in NTFS, a file as small as that has its room in its
# entry of the file table) and for the last records (see Write-FpLine).
function Save-FpRoom {
    try {
        $null = Write-FpNewFile -Path (Get-FpJobFile -Name 'rc') -Text (' ' * 64)
        [System.IO.File]::WriteAllBytes((Get-FpJobFile -Name 'reserve'), [byte[]]::new(65536))
    } catch {
        Write-Verbose -Message "$_"
    }
}

function Write-FpLog { # a line that can't be written (no room) is left out: the job goes on
    param([System.IO.Stream] $Log, $Item)
    $text = if ($Item -is [string]) { $Item } else { (Out-String -InputObject $Item -Width 200).TrimEnd() }
    $bytes = [System.Text.UTF8Encoding]::new($false).GetBytes("$text`n")
    try { $Log.Write($bytes, 0, $bytes.Length) } catch { Write-Verbose -Message "$_" }
}

function Invoke-FpJob { # runs the job's script, and writes its exit code
    $share = [System.IO.FileShare] 'ReadWrite, Delete'
    $path, $mode, $access = (Get-FpJobFile -Name 'log'), [System.IO.FileMode]::Append, [System.IO.FileAccess]::Write
    $log = [System.IO.FileStream]::new($path, $mode, $access, $share, 1) # without a buffer
    Set-Variable -Name FpMark -Value '' # read by the prelude, with which the script begins
    $FpState = @{ ExitCode = 1; ClockBase = $null }
    try {
        try {
            $params = ConvertFrom-Json -InputObject (Read-FpText -Path (Get-FpJobFile -Name 'params.json'))
            Set-Variable -Name FpParams -Value $params
            # without the parameter "clock", a clock that is set back from now on has no effect (see Get-FpNow)
            if (-not (Get-FpField -Object $params -Name clock)) {
                $ticks = [System.Diagnostics.Stopwatch]::GetTimestamp() / [System.Diagnostics.Stopwatch]::Frequency
                $FpState.ClockBase = (Get-FpSecond) - [long] [System.Math]::Floor($ticks)
            }
            $program = [ScriptBlock]::Create((Read-FpText -Path (Get-FpJobFile -Name 'script.ps1')))
            $FpState.ExitCode = 0
            & $program *>&1 | ForEach-Object -Process { Write-FpLog -Log $log -Item $_ }
        } catch {
            $FpState.ExitCode = 1
            Write-FpLog -Log $log -Item "the job's script was not run: $_"
        }
    } finally { # also after exit in the script
        try { $log.Flush($true) } catch { Write-Verbose -Message "$_" }
        $log.Dispose()
        Save-FpText -Path (Get-FpJobFile -Name 'rc') -Text "$([int] $FpState.ExitCode) $(Get-FpSecond)`n"
    }
}

$FpAlive = Enter-FpFile -Path (Get-FpJobFile -Name 'alive') -Seconds 10
if ($null -ne $FpAlive) { # else another process is this job
    $FpFiles = @()
    try {
        $begins = $false
        try {
            $begins = Confirm-FpBegin
        } catch {
            Save-FpText -Path (Get-FpJobFile -Name 'note') -Text "it could not begin: $(Get-FpCause $_)`n"
        }
        if ($begins) {
            $FpFiles = @(Open-FpFiles)
            Save-FpRoom
            Invoke-FpJob
        }
    } finally {
        [System.IO.File]::Delete((Get-FpJobFile -Name 'reserve'))
        foreach ($file in $FpFiles) { $file.Dispose() }
        $FpAlive.Dispose()
        Unregister-FpTask -Id $FpId
    }
}
