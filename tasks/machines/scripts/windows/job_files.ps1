# Functions that write the files of jobs, and read and write the machine lock. The variable $FpJobs is the folder of
# all jobs, and the lock is beside it. They need nothing of the prelude: job_run.ps1 uses them before it runs a job's
# script.
# Requires: job_state

function Write-FpNewFile { # writes PATH.new to the disk, and returns its name
    param([string] $Path, [string] $Text)
    $bytes = [System.Text.UTF8Encoding]::new($false).GetBytes($Text)
    $access, $share = [System.IO.FileAccess]::Write, [System.IO.FileShare]::None
    $stream = [System.IO.File]::Open("$Path.new", [System.IO.FileMode]::Create, $access, $share)
    try {
        $stream.Write($bytes, 0, $bytes.Length)
        $stream.Flush($true)
    } finally {
        $stream.Dispose()
    }
    "$Path.new"
}

function Save-FpText { # writes a file: all of it or nothing
    param([string] $Path, [string] $Text)
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        try {
            $new = Write-FpNewFile -Path $Path -Text $Text
            if ([System.IO.File]::Exists($Path)) {
                [System.IO.File]::Replace($new, $Path, [System.Management.Automation.Language.NullString]::Value)
            } else {
                [System.IO.File]::Move($new, $Path)
            }
            return
        } catch {
            if ($watch.ElapsedMilliseconds -gt 3000) { throw } # a virus scanner may have had it
            Start-Sleep -Milliseconds 100
        }
    }
}

function Add-FpMeta { # creates a job's meta.json, unless it is there; returns whether it did
    param([string] $Folder, [System.Collections.IDictionary] $Content)
    $path = Join-Path -Path $Folder -ChildPath 'meta.json'
    $text = ConvertTo-Json -Compress -InputObject $Content
    $own = Write-FpNewFile -Path "$path.$PID.$([System.Guid]::NewGuid().ToString('N'))" -Text $text
    try {
        [System.IO.File]::Move($own, $path)
        $true
    } catch {
        [System.IO.File]::Delete($own)
        if (-not [System.IO.File]::Exists($path)) { throw }
        $false
    }
}

# Keeps a file open, so that nobody else can open it. Returns its stream, or nothing if another process keeps it.
function Enter-FpFile {
    param([string] $Path, [int] $Seconds)
    $mode, $access = [System.IO.FileMode]::OpenOrCreate, [System.IO.FileAccess]::ReadWrite
    $full = -2147024784, -2147024857, -2147024877 # no room on the disk, or write-protected
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        try {
            return [System.IO.File]::Open($Path, $mode, $access, [System.IO.FileShare]::None)
        } catch [System.UnauthorizedAccessException], [System.IO.DirectoryNotFoundException] {
            Deny-FpOrder -Why "cannot write ${Path}: $(Get-FpCause $_)" -About room
        } catch {
            if ($full -contains $_.Exception.GetBaseException().HResult) {
                Deny-FpOrder -Why "cannot write ${Path}: $(Get-FpCause $_)" -About room
            }
            if ($watch.Elapsed.TotalSeconds -ge $Seconds) { return }
        }
        Start-Sleep -Milliseconds 50
    }
}

function Test-FpReads { # whether a job only asks the machine something
    param([string] $Folder)
    [System.IO.File]::Exists((Join-Path -Path $Folder -ChildPath 'reads'))
}

function Get-FpMutexPath { # of the mutex for starts of jobs that only read, or of the others
    param([bool] $Reads)
    Join-Path -Path $FpJobs -ChildPath $(if ($Reads) { '.lock-reads' } else { '.lock' })
}

# Takes the mutex that separates all scripts that start jobs or change the machine lock. Returns its stream.
function Enter-FpMutex {
    param([int] $Seconds = 20, [bool] $Reads = $false)
    $path = Get-FpMutexPath -Reads $Reads
    $mutex = Enter-FpFile -Path $path -Seconds $Seconds
    if ($null -eq $mutex) {
        Deny-FpOrder -Why "another process has kept $path locked for $Seconds seconds" -About unsure
    }
    $mutex
}

# The machine lock: a file of five lines: the run that has the machine, until when (epoch seconds; 0: it was
# released), who started the run, the number of the attempt at that run, and the run's kind ("stage": it only
# downloads).
function Get-FpLockPath { Join-Path -Path (Split-Path -Parent -Path $FpJobs) -ChildPath 'machine-lock' }

function Get-FpLock {
    $lines = "$(Read-FpText -Path (Get-FpLockPath))" -split "`r?`n"
    $lines += '', '', '', '', ''
    @{
        Run = $lines[0]; Until = ConvertTo-FpNumber $lines[1]; By = $lines[2]; Attempt = ConvertTo-FpNumber $lines[3]
        Kind = $lines[4]
    }
}

function Save-FpLock {
    param([string] $Run, [long] $Until, [string] $By, [long] $Attempt, [string] $Kind)
    $path = Get-FpLockPath
    try {
        Save-FpText -Path $path -Text "$Run`n$Until`n$($By -replace '[\r\n]', ' ')`n$Attempt`n$Kind`n"
    } catch {
        Deny-FpOrder -Why "cannot write $path" -About room
    }
}

# Returns why an order of a run and attempt is void ('' if it has the lock), and the other run that has it. An order
# may have been delayed while another attempt took the run over.
function Test-FpLock {
    param([string] $Run, [long] $Attempt)
    $held = Get-FpLock
    $void = @{ Why = ''; Holder = ''; Held = $held }
    if ($held.Run -cne $Run -or $held.Until -eq 0) {
        $who = 'no run has it'
        $isLifted = $held.Run -ceq $Run -and $held.By -clike 'lifted by *'
        if ($isLifted) { $who = "it was removed by $($held.By.Substring(10))" }
        if ($held.Until -ne 0) { $who = "run $($held.Run) ($($held.By)) has it"; $void.Holder = $held.Run }
        $void.Why = "run $Run no longer has the lock of this machine: $who"
    } elseif ($Attempt -lt $held.Attempt) {
        $later = "its attempt $($held.Attempt) has the lock, and this order is of attempt $Attempt"
        $void.Why = "run ${Run} was resumed: $later"
    }
    $void
}

function Get-FpRunningJob { # the ids of the jobs that run now, of those that only read or of the others
    param([string] $Except = '', [bool] $Reads = $false)
    if (-not [System.IO.Directory]::Exists($FpJobs)) { return }
    foreach ($folder in [System.IO.Directory]::GetDirectories($FpJobs)) {
        $id = Split-Path -Leaf -Path $folder
        if ($id -eq $Except -or (Test-FpReads -Folder $folder) -ne $Reads) { continue }
        if ((Get-FpJob -Folder $folder).Phase -eq 'running') { $id }
    }
}

function Find-FpRunningJob { # the id of a job that runs now and may change something, or ''
    param([string] $Except = '')
    "$(Get-FpRunningJob -Except $Except | Select-Object -First 1)"
}
