# Shows which run has the machine lock, and which job runs; or removes that lock, for a person.
# Parameters: lift ("yes"), by (who removes it), and of the lock as it was read before: run, attempt, until.
# Records: lock (run, by, until, attempt: who has it, "" and 0 if there is none; job, label, began: what runs; now),
# and then lifted, or changed (it is not the lock that was read), or refused (why). The lock is not removed while a
# job runs.
# Step: order
# Changes: it removes the machine lock
# Requires: job_common

function Write-FpLock { # returns the lock and the job that runs
    $held = Get-FpLock
    $busy = Find-FpRunningJob
    $record = [ordered]@{
        run = $held.Run; by = $held.By; until = $held.Until; attempt = $held.Attempt
        job = $busy; label = ''; began = $null; now = Get-FpNow
    }
    if ($held.Until -eq 0) { $record.run, $record.by = '', '' }
    if ($busy) {
        $folder = Get-FpJobFolder -Id $busy
        $record.label, $record.began = (Get-FpLabel -Folder $folder), (Get-FpJob -Folder $folder).Began
    }
    Write-FpRecord -Kind lock -Fields $record
    @{ Run = $record.run; Attempt = $held.Attempt; Until = $held.Until; Job = $busy }
}

Invoke-FpOrder -Order {
    if (-not (Test-FpParam -Name lift)) {
        $null = Write-FpLock
        return
    }
    Initialize-FpJobs
    $mutex = Enter-FpMutex
    try {
        $seen = Write-FpLock
        if ($seen.Job) { Deny-FpOrder -Why "job $($seen.Job) is running" }
        $told = (Get-FpParam -Name run), (Get-FpParam -Name attempt), (Get-FpParam -Name until)
        if ("$($seen.Run) $($seen.Attempt) $($seen.Until)" -cne "$told") {
            Write-FpRecord -Kind changed -Fields @{ run = $seen.Run }
            return
        }
        # the lock now says who removed it: a later order of that run is refused with these words
        Save-FpLock -Run $seen.Run -Until 0 -By "lifted by $(Get-FpParam -Name by)" -Attempt $seen.Attempt -Kind ''
        Write-FpRecord -Kind lifted -Fields @{ run = $seen.Run }
    } finally {
        $mutex.Dispose()
    }
}
