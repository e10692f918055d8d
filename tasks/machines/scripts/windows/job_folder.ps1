# Functions for the folder of a job, and for what is said of a job.
# Requires: job_state

$FpJobs = Join-Path -Path (Get-FpRoot) -ChildPath 'jobs'

function Get-FpJobFolder { # of a job with an id that can be the name of a folder
    param([string] $Id)
    if ($Id -notmatch '^[A-Za-z0-9_-]{1,80}$') { throw "no id of a job: $Id" }
    Join-Path -Path $FpJobs -ChildPath $Id
}

function Write-FpJob { # one record with the state of a job
    param([string] $Id, [System.Collections.IDictionary] $Job, [System.Collections.IDictionary] $More = @{})
    $record = [ordered]@{ id = $Id; phase = $Job.Phase; exit_code = $Job.ExitCode }
    $record.began, $record.ended = $Job.Began, $Job.Ended
    foreach ($name in $More.Keys) { $record[$name] = $More[$name] }
    Write-FpRecord -Kind job -Fields $record
}
