# Functions that read the files of a job. They need nothing of the prelude: job_run.ps1 uses them before it runs a job's
# script.
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

function Get-FpField { # a text of an object that was JSON, without the "=" before it; '' if it has none
    param($Object, [string] $Name)
    if ($null -eq $Object -or $null -eq $Object.PSObject.Members[$Name]) { return '' }
    ([string] $Object.PSObject.Members[$Name].Value) -replace '^=', ''
}

function ConvertTo-FpNumber { # a whole number, or 0 for every other text
    param([string] $Text)
    if ($Text -match '^[0-9]{1,18}$') { [long] $Text } else { [long] 0 }
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
