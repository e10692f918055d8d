# Gives a run the machine lock (the claim), so that no other run changes the machine; or releases it.
# Parameters: run (its id), attempt (a number: an attempt that resumes the run has a higher one), by (who started the
# run), until (epoch seconds: when the claim expires), kind (of the run), preempts (the kind of runs that this run may
# take the claim from; their job is asked to stop, and keeps the claim until its end), release ("yes").
# Records: claimed (the run has the claim; preempted: the run that had it), released, kept (the run has the claim, and
# keeps it while that job runs), taken (run, by, until, attempt: who has it; job: what runs; ending: whether that was
# asked to stop for this run), or refused (why).
# Requires: job_common, task_scheduler

function Write-FpTaken {
    param($Claim, [string] $Busy, [bool] $Ending)
    Write-FpRecord -Kind taken -Fields ([ordered]@{
            run = $Claim.Run; by = $Claim.By; until = $Claim.Until; attempt = $Claim.Attempt
            job = $Busy; ending = $Ending
        })
}

# Whether the claim of another run may be taken now ("now"); or its job was asked to stop ("ending"); or ''.
function Test-FpPreemption {
    param($Claim, [string] $Busy, [string] $By)
    if (-not $Claim.Kind -or $Claim.Kind -cne (Get-FpParam -Name preempts)) { return '' }
    if (-not $Busy) { return 'now' }
    $folder = Get-FpJobFolder -Id $Busy
    $params = Read-FpJson -Path (Join-Path -Path $folder -ChildPath 'params.json')
    if ((Get-FpField -Object $params -Name claim_run) -cne $Claim.Run) { return '' }
    if (Request-FpStop -Folder $folder -By $By) { 'ending' } else { '' }
}

function Write-FpRelease { # of the run's own claim; a claim that another run may have is released as well
    param($Claim, [string] $Run, [long] $Attempt, [string] $Busy)
    if ($Claim.Run -cne $Run) {
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
        Save-FpClaim -Run $Run -Until 0 -By '' -Attempt $Attempt -Kind ''
    } catch {
        [System.IO.File]::Delete((Get-FpClaimPath)) # on a full disk
    }
    Write-FpRecord -Kind released -Fields @{ run = $Run }
}

function Invoke-FpClaim {
    $run = Get-FpParam -Name run
    $by = Get-FpParam -Name by
    $attempt = ConvertTo-FpNumber (Get-FpParam -Name attempt)
    $until = ConvertTo-FpNumber (Get-FpParam -Name until)
    $release = Test-FpParam -Name release
    $claim = Get-FpClaim
    $busy = Find-FpRunningJob
    $preempted = ''
    if ($claim.Run -ceq $run) {
        if ($attempt -lt $claim.Attempt) { # by the attempt that has taken the run over
            Write-FpTaken -Claim $claim -Busy $busy -Ending $false
            return
        }
        if (-not $release) { $until = [System.Math]::Max($until, $claim.Until) } # an order has extended it
    } elseif ($claim.Until -gt (Get-FpNow) -or ($busy -and -not $release)) {
        # a job that still runs keeps other runs away, even if its claim has expired
        $way = Test-FpPreemption -Claim $claim -Busy $busy -By "$run ($by)"
        if ($way -ne 'now') {
            Write-FpTaken -Claim $claim -Busy $busy -Ending ($way -eq 'ending')
            return
        }
        $preempted = $claim.Run
    }
    if ($release) {
        Write-FpRelease -Claim $claim -Run $run -Attempt $attempt -Busy $busy
        return
    }
    Save-FpClaim -Run $run -Until $until -By $by -Attempt $attempt -Kind (Get-FpParam -Name kind)
    $record = [ordered]@{ run = $run; until = $until; attempt = $attempt; preempted = $preempted }
    Write-FpRecord -Kind claimed -Fields $record
}

Invoke-FpOrder -Order {
    Initialize-FpJobs
    $lock = Enter-FpLock
    try { Invoke-FpClaim } finally { $lock.Dispose() }
}
