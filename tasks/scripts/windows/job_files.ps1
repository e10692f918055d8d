# Functions that read and write the files of jobs and of the claim. The variable $FpJobs is the folder of all jobs, and
# the claim is beside it. They need nothing of prelude.ps1: job_run.ps1 uses them before it runs a job's script.
#
# A job is a folder: run.ps1 script.ps1 params.json label alive launching begun meta.json events log rc stop. That of a
# job that only asks the machine something has the file "reads": such jobs have a lock and places of their own, and no
# other job waits for them. The job creates its meta.json atomically, and keeps the file "alive" open, so that nobody
# else can open it. Windows closes it when the process ends, however it ends. The job creates its rc, the exit code,
# atomically at its end.
# If a start waits in vain for the job, it creates the meta.json atomically as "withdrawn". Then the job never begins:
# it is absent.

function Deny-FpOrder { # ends an order: Invoke-FpOrder answers with why
    param([string] $Why, [string] $About = '', [string] $Holder = '')
    $refusal = @{ FpRefused = $Why; About = $About; Holder = $Holder }
    $cause = [System.InvalidOperationException]::new($Why) # for scripts that give no such answer
    $stopped = [System.Management.Automation.ErrorCategory]::OperationStopped
    throw [System.Management.Automation.ErrorRecord]::new($cause, 'FpRefused', $stopped, $refusal)
}

function Get-FpCause { # the deepest message of an error
    param($ErrorRecord)
    $ErrorRecord.Exception.GetBaseException().Message
}

function Read-FpText { # a file's text (UTF-8), or nothing if there is no such file
    param([string] $Path)
    $share = [System.IO.FileShare] 'ReadWrite, Delete'
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        try {
            $stream = [System.IO.File]::Open($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, $share)
            $reader = [System.IO.StreamReader]::new($stream, [System.Text.Encoding]::UTF8)
            try { return $reader.ReadToEnd() } finally { $reader.Dispose() }
        } catch [System.IO.FileNotFoundException], [System.IO.DirectoryNotFoundException] {
            return
        } catch {
            # a virus scanner may have it; a file that can't be read must not look like one that is not there
            if ($watch.ElapsedMilliseconds -gt 5000) {
                Deny-FpOrder -Why "cannot read ${Path}: $(Get-FpCause $_)" -About unsure
            }
            Start-Sleep -Milliseconds 50
        }
    }
}

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

function Get-FpField { # a text of an object that was JSON, without the "=" before it; '' if it has none
    param($Object, [string] $Name)
    if ($null -eq $Object -or $null -eq $Object.PSObject.Members[$Name]) { return '' }
    ([string] $Object.PSObject.Members[$Name].Value) -replace '^=', ''
}

function ConvertTo-FpNumber { # a whole number, or 0 for every other text
    param([string] $Text)
    if ($Text -match '^[0-9]{1,18}$') { [long] $Text } else { [long] 0 }
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

function Test-FpHeld { # whether a process keeps a file open. It never disturbs another process that asks the same.
    param([string] $Path)
    $share = [System.IO.FileShare] 'ReadWrite, Delete'
    try {
        [System.IO.File]::Open($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, $share).Dispose()
        $false
    } catch [System.IO.FileNotFoundException], [System.IO.DirectoryNotFoundException] {
        $false
    } catch {
        $true
    }
}

function Test-FpReads { # whether a job only asks the machine something
    param([string] $Folder)
    [System.IO.File]::Exists((Join-Path -Path $Folder -ChildPath 'reads'))
}

function Get-FpLockPath { # of the lock for starts of jobs that only read, or of the others
    param([bool] $Reads)
    Join-Path -Path $FpJobs -ChildPath $(if ($Reads) { '.lock-reads' } else { '.lock' })
}

# Takes the lock that separates all scripts that start jobs or change the claim. Returns its stream.
function Enter-FpLock {
    param([int] $Seconds = 20, [bool] $Reads = $false)
    $path = Get-FpLockPath -Reads $Reads
    $lock = Enter-FpFile -Path $path -Seconds $Seconds
    if ($null -eq $lock) {
        Deny-FpOrder -Why "another process has kept $path locked for $Seconds seconds" -About unsure
    }
    $lock
}

# The claim: a file of five lines: the run that has the machine, until when (epoch seconds; 0: it was released), who
# started the run, the number of the attempt at that run, and the run's kind ("stage": it only downloads).
function Get-FpClaimPath { Join-Path -Path (Split-Path -Parent -Path $FpJobs) -ChildPath 'claim' }

function Get-FpClaim {
    $lines = "$(Read-FpText -Path (Get-FpClaimPath))" -split "`r?`n"
    $lines += '', '', '', '', ''
    @{
        Run = $lines[0]; Until = ConvertTo-FpNumber $lines[1]; By = $lines[2]; Attempt = ConvertTo-FpNumber $lines[3]
        Kind = $lines[4]
    }
}

function Save-FpClaim {
    param([string] $Run, [long] $Until, [string] $By, [long] $Attempt, [string] $Kind)
    $path = Get-FpClaimPath
    try {
        Save-FpText -Path $path -Text "$Run`n$Until`n$($By -replace '[\r\n]', ' ')`n$Attempt`n$Kind`n"
    } catch {
        Deny-FpOrder -Why "cannot write $path" -About room
    }
}

# Returns why an order of a run and attempt is void ('' if it has the claim), and the other run that has it. An order
# may have been delayed while another attempt took the run over.
function Test-FpClaim {
    param([string] $Run, [long] $Attempt)
    $claim = Get-FpClaim
    $void = @{ Why = ''; Holder = ''; Claim = $claim }
    if ($claim.Run -cne $Run -or $claim.Until -eq 0) {
        $who = 'no run has it'
        $isLifted = $claim.Run -ceq $Run -and $claim.By -clike 'lifted by *'
        if ($isLifted) { $who = "it was removed by $($claim.By.Substring(10))" }
        if ($claim.Until -ne 0) { $who = "run $($claim.Run) ($($claim.By)) has it"; $void.Holder = $claim.Run }
        $void.Why = "run $Run no longer has the lock of this machine: $who"
    } elseif ($Attempt -lt $claim.Attempt) {
        $later = "its attempt $($claim.Attempt) has the lock, and this order is of attempt $Attempt"
        $void.Why = "run ${Run} was resumed: $later"
    }
    $void
}

function Read-FpJson { # an object, or nothing if the file is not there or has none
    param([string] $Path)
    $text = "$(Read-FpText -Path $Path)"
    try { ConvertFrom-Json -InputObject $text } catch { Write-Verbose -Message "${Path}: $_" }
}

function Read-FpExitCode { # the exit code and the end of a job, or nothing
    param([string] $Folder)
    if ((Read-FpText -Path (Join-Path -Path $Folder -ChildPath 'rc')) -match '^([0-9]{1,9}) ([0-9]{1,12})\s*$') {
        @{ ExitCode = [int] $Matches[1]; Ended = [long] $Matches[2] }
    }
}

# The state of a job: Phase is absent, running, finished or lost; Withdrawn is why it never begins.
function Get-FpJob {
    param([string] $Folder)
    $job = @{ Phase = 'absent'; ExitCode = $null; Began = $null; Ended = $null; Withdrawn = '' }
    $path = Join-Path -Path $Folder -ChildPath 'meta.json'
    if (-not [System.IO.File]::Exists($path)) { return $job }
    $meta = Read-FpJson -Path $path
    $job.Withdrawn = Get-FpField -Object $meta -Name withdrawn
    if ($job.Withdrawn) { return $job }
    $began = ConvertTo-FpNumber (Get-FpField -Object $meta -Name began)
    if ($began) { $job.Began = $began }
    # it may end between the two questions
    $alive = Test-FpHeld -Path (Join-Path -Path $Folder -ChildPath 'alive')
    $end = Read-FpExitCode -Folder $Folder
    if ($null -ne $end) {
        $job.Phase, $job.ExitCode, $job.Ended = 'finished', $end.ExitCode, $end.Ended
    } elseif ($alive) {
        $job.Phase = 'running'
    } else {
        $job.Phase = 'lost'
    }
    $job
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
