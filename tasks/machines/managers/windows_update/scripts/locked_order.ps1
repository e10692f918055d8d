# Carries an order out under the lock of the machine.
# Parameters: lock_run, lock_attempt, lock_until (who sent it). Records: refused (why).
# Requires: job_common

function Invoke-FpUnderLock {
    # Refuses the order if the run that sent it no longer has the lock of this machine. Otherwise it renews the lock.
    param([Parameter(Mandatory = $true, Position = 0)][scriptblock] $Change)
    Initialize-FpJobs
    $mutex = Enter-FpMutex
    try {
        $attempt = ConvertTo-FpNumber (Get-FpParam 'lock_attempt')
        $void = Test-FpLock -Run (Get-FpParam 'lock_run') -Attempt $attempt
        if ($void.Why) { Deny-FpOrder -Why $void.Why -About machine_lock }
        $until = ConvertTo-FpNumber (Get-FpParam 'lock_until')
        Save-FpHeldLock -Held $void.Held -Attempt $attempt -Until $until
        & $Change
    } finally {
        $mutex.Dispose()
    }
}
