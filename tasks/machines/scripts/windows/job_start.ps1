# Starts a job, or attaches to it. Parameters: id, label, wrapper (job_run.ps1), program (what it runs), token (its
# parameters, as JSON), reads ("yes": it only asks the machine something).
# One job runs at a time. Those that only read are not counted: up to four of them run beside it, and it beside them.
# A job with lock_run and lock_attempt in its own parameters begins only while that run has the machine lock and
# no later attempt is known: the order may have been delayed while another attempt took the run over. Its lock_until
# (epoch seconds) extends that lock.
# Records: job; or busy (another job runs here), or refused (it could not be started, or is not allowed; about:
# machine_lock, room, "unsure": it may still begin, or ""). A refused job never begins, even if its start comes late.
# Step: install
# Changes: a folder of the job, and a process or unit that runs it
# Requires: job_common, task_scheduler, task_start
# Brings: wrapper=job_run

$patience = 180 # PowerShell starts slowly after an update of .NET: its assemblies are compiled anew
$reads = Test-FpParam -Name reads
$maxReaders = 4 # else those that hang would use up the machine's memory

# Refuses an order of a run or attempt that does not have the machine lock; a later attempt replaces an earlier one.
function Confirm-FpLock {
    param($Token, [bool] $IsAttached)
    $run = Get-FpParam -Name lock_run -From $Token
    if (-not $run) { return }
    $attempt = ConvertTo-FpNumber (Get-FpParam -Name lock_attempt -From $Token)
    $void = Test-FpLock -Run $run -Attempt $attempt
    if (-not $void.Why) {
        $until = ConvertTo-FpNumber (Get-FpParam -Name lock_until -From $Token)
        Save-FpHeldLock -Held $void.Held -Attempt $attempt -Until $until
    } elseif (-not $IsAttached) {
        Deny-FpOrder -Why $void.Why -About machine_lock -Holder $void.Holder
    }
}

# Keeps the last 20 jobs that have ended, of those that only read and of the others: many assessments must not remove
# what an installation has written.
function Clear-FpOldJobs {
    Clear-FpLostTasks
    $ended = @(Get-ChildItem -LiteralPath $FpJobs -Directory |
            Where-Object -FilterScript { Test-Path -LiteralPath (Join-Path -Path $_.FullName -ChildPath 'meta.json') } |
            Where-Object -FilterScript { (Test-FpReads -Folder $_.FullName) -eq $reads } |
            Sort-Object -Property LastWriteTimeUtc -Descending | Select-Object -Skip 19)
    foreach ($old in $ended) {
        try {
            [System.IO.Directory]::Delete($old.FullName, $true)
            Unregister-FpTask -Id $old.Name
        } catch {
            Write-Verbose -Message "job $($old.Name): $_" # somebody may be reading it
        }
    }
}

# Writes the files of a job: each one is complete, or not there. An old stop request was for an earlier order, a new one
# is for this order.
function Save-FpJob {
    param([string] $Folder)
    try {
        $null = [System.IO.Directory]::CreateDirectory($Folder)
        foreach ($name in 'stop', 'note', 'begun', 'reads') {
            [System.IO.File]::Delete((Join-Path -Path $Folder -ChildPath $name))
        }
        if ($reads) { Save-FpText -Path (Join-Path -Path $Folder -ChildPath 'reads') -Text "yes`n" }
        Save-FpText -Path (Join-Path -Path $Folder -ChildPath 'run.ps1') -Text (Get-FpParam -Name wrapper)
        Save-FpText -Path (Join-Path -Path $Folder -ChildPath 'script.ps1') -Text (Get-FpParam -Name program)
        Save-FpText -Path (Join-Path -Path $Folder -ChildPath 'label') -Text "$(Get-FpParam -Name label)`n"
        Save-FpText -Path (Join-Path -Path $Folder -ChildPath 'params.json') -Text (Get-FpParam -Name token)
    } catch {
        Deny-FpOrder -Why "cannot write ${Folder}: $(Get-FpCause $_)" -About room
    }
}

# Runs the job's task, and waits until the job has begun; else it never begins. While the file "launching" is kept open,
# the job knows that its start waits for it, and that the lock is kept for it. The file "begun" says that its start has
# seen it begin.
function Invoke-FpLaunch {
    param([string] $Id, [string] $Folder)
    $launching = Enter-FpFile -Path (Join-Path -Path $Folder -ChildPath 'launching') -Seconds 10
    if ($null -eq $launching) { Deny-FpOrder -Why 'another process keeps its files open' -About unsure }
    try {
        try {
            $task = Register-FpTask -Id $Id -Folder $Folder -Limit $(if ($reads) { 'PT2H' } else { 'PT0S' })
        } catch {
            [System.IO.File]::Delete((Join-Path -Path $Folder -ChildPath 'run.ps1'))
            Deny-FpOrder -Why "the task scheduler can't run it: $(Get-FpCause $_)"
        }
        $why = Start-FpTask -Task $task -Id $Id -Folder $Folder -Mark 'meta.json' -Patience $patience
        if ($why) { $null = Add-FpWithdrawal -Folder $Folder -Why $why } # nothing, if it has begun just before
        try {
            [System.IO.File]::Create((Join-Path -Path $Folder -ChildPath 'begun')).Dispose()
        } catch {
            Write-Verbose -Message "$_" # then the job looks at the lock once more
        }
    } finally {
        $launching.Dispose()
    }
}

function Find-FpOccupant { # the id of a job that must end before this one may begin, or ''
    if (-not $reads) { return (Find-FpRunningJob) }
    $readers = @(Get-FpRunningJob -Reads $true)
    if ($readers.Count -ge $maxReaders) { $readers[0] } else { '' }
}

function Add-FpWithdrawal { # creates the job's meta.json, so that it never begins; it may have begun just before
    param([string] $Folder, [string] $Why)
    try {
        Add-FpMeta -Folder $Folder -Content ([ordered]@{ withdrawn = $Why })
    } catch {
        $cause = "it can't be told whether it begins: cannot write $Folder"
        Deny-FpOrder -Why "it did not begin, and $cause" -About unsure
    }
}

function Invoke-FpStart {
    param([string] $Id)
    $folder = Get-FpJobFolder -Id $Id
    $token = ConvertFrom-FpParamText -Text (Get-FpParam -Name token)
    $never = 'it did not begin when it was handed over, so it never begins'
    $job = Get-FpJob -Folder $folder
    $attached = $job.Phase -ne 'absent'
    Confirm-FpLock -Token $token -IsAttached $attached
    if ($job.Withdrawn) { Deny-FpOrder -Why $never }
    if (-not $attached) {
        $busy = Find-FpOccupant
        if ($busy) {
            $other = Get-FpJobFolder -Id $busy
            Write-FpRecord -Kind busy -Fields ([ordered]@{
                    id = $Id; holder = $busy
                    began = (Get-FpJob -Folder $other).Began; label = Get-FpLabel -Folder $other
                })
            return
        }
        Clear-FpOldJobs
        Save-FpJob -Folder $folder
        Invoke-FpLaunch -Id $Id -Folder $folder
        $job = Get-FpJob -Folder $folder
        if ($job.Withdrawn) {
            Unregister-FpTask -Id $Id
            Deny-FpOrder -Why "${never}: $($job.Withdrawn)"
        }
    }
    Write-FpJob -Id $Id -Job $job -More ([ordered]@{ attached = $attached; runner = 'task-scheduler' })
}

$id = Get-FpParam -Name id
Invoke-FpOrder -More ([ordered]@{ id = $id; holder = '' }) -Order {
    Initialize-FpJobs
    $mutex = Enter-FpMutex -Reads $reads
    try { Invoke-FpStart -Id $id } finally { $mutex.Dispose() }
}
