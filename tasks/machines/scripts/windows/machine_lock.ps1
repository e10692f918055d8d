# Gives a run the machine lock, so that no other run changes the machine; or releases it.
# Parameters: run (its id), attempt (a number: an attempt that resumes the run has a higher one), by (who started the
# run), until (epoch seconds: when the lock expires), kind (of the run), preempts (the kind of runs that this run may
# take the lock from; their job is asked to stop, and keeps the lock until its end), release ("yes").
# Records: locked (the run has the lock; preempted: the run that had it), released, kept (the run has the lock, and
# keeps it while that job runs), taken (run, by, until, attempt: who has it; job: what runs; ending: whether that was
# asked to stop for this run), or refused (why).
# Step: precheck
# Changes: the machine lock, a file of fleetpatch
# Requires: job_common, task_scheduler

function Write-FpTaken {
    param($Held, [string] $Busy, [bool] $Ending)
    Write-FpRecord -Kind taken -Fields ([ordered]@{
            run = $Held.Run; by = $Held.By; until = $Held.Until; attempt = $Held.Attempt
            job = $Busy; ending = $Ending
        })
}

# Whether the lock of another run may be taken now ("now"); or its job was asked to stop ("ending"); or ''.
function Test-FpPreemption {
    param($Held, [string] $Busy, [string] $By)
    if (-not $Held.Kind -or $Held.Kind -cne (Get-FpParam -Name preempts)) { return '' }
    if (-not $Busy) { return 'now' }
    $folder = Get-FpJobFolder -Id $Busy
    $params = Read-FpJson -Path (Join-Path -Path $folder -ChildPath 'params.json')
    if ((Get-FpField -Object $params -Name lock_run) -cne $Held.Run) { return '' }
    if (Request-FpStop -Folder $folder -By $By) { 'ending' } else { '' }
}

function Write-FpRelease { # of the run's own lock; a lock that another run may have is released as well
    param($Held, [string] $Run, [long] $Attempt, [string] $Busy)
    if ($Held.Run -cne $Run) {
        Write-FpRecord -Kind released -Fields @{ run = $Run }
        return
    }
    if ($Busy) {
        Write-FpRecord -Kind kept -Fields ([ordered]@{ run = $Run; job = $Busy })
        return
    }
    Clear-FpLostTasks # the run ends, and another one may be long in coming
    # the file stays, marked as released, so that older attempts at this run are recognized
    try {
        Save-FpLock -Run $Run -Until 0 -By '' -Attempt $Attempt -Kind ''
    } catch {
        [System.IO.File]::Delete((Get-FpLockPath)) # on a full disk
    }
    Write-FpRecord -Kind released -Fields @{ run = $Run }
}

function Invoke-FpMachineLock {
    $run = Get-FpParam -Name run
    $by = Get-FpParam -Name by
    $attempt = ConvertTo-FpNumber (Get-FpParam -Name attempt)
    $until = ConvertTo-FpNumber (Get-FpParam -Name until)
    $release = Test-FpParam -Name release
    $held = Get-FpLock
    $busy = Find-FpRunningJob
    $preempted = ''
    if ($held.Run -ceq $run) {
        if ($attempt -lt $held.Attempt) { # by the attempt that has taken the run over
            Write-FpTaken -Held $held -Busy $busy -Ending $false
            return
        }
        if (-not $release) { $until = [System.Math]::Max($until, $held.Until) } # an order has extended it
    } elseif ($held.Until -gt (Get-FpNow) -or ($busy -and -not $release)) {
        # a job that still runs keeps other runs away, even if its lock has expired
        $way = Test-FpPreemption -Held $held -Busy $busy -By "$run ($by)"
        if ($way -ne 'now') {
            Write-FpTaken -Held $held -Busy $busy -Ending ($way -eq 'ending')
            return
        }
        $preempted = $held.Run
    }
    if ($release) {
        Write-FpRelease -Held $held -Run $run -Attempt $attempt -Busy $busy
        return
    }
    Save-FpLock -Run $run -Until $until -By $by -Attempt $attempt -Kind (Get-FpParam -Name kind)
    $record = [ordered]@{ run = $run; until = $until; attempt = $attempt; preempted = $preempted }
    Write-FpRecord -Kind locked -Fields $record
}

Invoke-FpOrder -Order {
    Initialize-FpJobs
    $mutex = Enter-FpMutex
    try { Invoke-FpMachineLock } finally { $mutex.Dispose() }
}
