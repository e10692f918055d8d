# Orders a reboot. Parameters: expected_boot_id, delay (whole seconds), lock_run and lock_attempt (the order is
# executed only while that run has the machine lock and no later attempt is known), latest (the latest time, in
# whole seconds of this machine's clock). Record: ordered, or refused with why and about: machine_lock, window, room,
# lock or inhibitor (another process changes packages, or somebody has scheduled a shutdown), or "".
# A repeated order is executed only once, because the boot id is another one then. The answer is sent before the
# machine goes down. A shutdown that somebody else has scheduled is left alone.
# Step: reboot
# Changes: it reboots the machine
# Requires: job_common, privilege_level, servicing

# Refuses an order of a run or attempt that does not have the machine lock; a later attempt replaces an earlier one.
function Confirm-FpRebootLock {
    $run = Get-FpParam -Name lock_run
    if (-not $run) { return }
    $attempt = ConvertTo-FpNumber (Get-FpParam -Name lock_attempt)
    $void = Test-FpLock -Run $run -Attempt $attempt
    if ($void.Why) { Deny-FpOrder -Why $void.Why -About machine_lock }
    try {
        $until = ConvertTo-FpNumber (Get-FpParam -Name lock_until)
        Save-FpHeldLock -Held $void.Held -Attempt $attempt -Until $until
    } catch {
        # an order of an earlier attempt has the same effect: the boot id shows that it was executed
        Write-Verbose -Message "the lock was not written: $_"
    }
}

function Confirm-FpTime { # refuses an order that comes too late for the window, by this machine's own clock
    $latest = Get-FpParam -Name latest
    if ($latest -notmatch '^[0-9]{1,12}$') { return }
    $late = (Get-FpNow) - [long] $latest
    if ($late -le 0) { return }
    $why = "the order came $late s after the last moment at which a reboot fits into the window"
    Deny-FpOrder -Why $why -About window
}

function Invoke-FpShutdown { # returns shutdown.exe's exit code and words
    param([string] $BootId)
    $delay = [System.Math]::Max(2, (ConvertTo-FpNumber (Get-FpParam -Name delay -Default 5))) # the answer goes first
    $run = Get-FpParam -Name lock_run -Default 'unknown'
    $comment = "fleetpatch, run ${run}: a reboot after updates (boot $BootId)"
    # planned, of the operating system, because of updates
    Invoke-FpProgram -Name shutdown.exe -Arguments '/r', '/t', "$delay", '/d', 'p:2:17', '/c', $comment
}

function Write-FpOrdered {
    param([string] $BootId, [bool] $Again)
    Write-FpRecord -Kind ordered -Fields ([ordered]@{ boot_id = $BootId; again = $Again })
}

function Invoke-FpRebootOrder {
    param([string] $BootId)
    Confirm-FpRebootLock
    Confirm-FpTime
    if ((Get-FpPrivilege) -ne 'administrator') { Deny-FpOrder -Why 'the login is no administrator' }
    $job = Find-FpRunningJob
    if ($job) { Deny-FpOrder -Why "the job $job is still running" }
    $note = Read-FpRebootNote -BootId $BootId
    $run = Get-FpParam -Name lock_run
    $isAborted = $null -ne (Find-FpAbort -Note $note)
    if ($null -ne $note -and $note.Said -eq 'taken' -and -not $isAborted) {
        Write-FpOrdered -BootId $BootId -Again $true
        return
    }
    $obstacle = Find-FpObstacle -Note $note -Run $run
    if ($null -ne $obstacle) { Deny-FpOrder -Why $obstacle.Why -About $obstacle.About }
    Confirm-FpTime # to look at the obstacles takes a while
    try {
        Save-FpRebootNote -BootId $BootId -Run $run -Said trying
    } catch {
        Deny-FpOrder -Why "cannot write $(Get-FpNotePath)" -About room
    }
    $done = Invoke-FpShutdown -BootId $BootId
    if ($done.ExitCode -eq 0) {
        Save-FpRebootNote -BootId $BootId -Run $run -Said taken
        Write-FpOrdered -BootId $BootId -Again $false
        return
    }
    if ($done.ExitCode -notin 1190, 1115) {
        Deny-FpOrder -Why "shutdown.exe failed ($($done.ExitCode)): $($done.Output)" -About failed
    }
    # 1190: a shutdown is scheduled; 1115: it is in progress
    $last = Get-FpShutdownEvent
    $words = if ($null -ne $last) { $last.Words } else { 'its log does not say by whom' }
    if ($words.Contains($BootId)) { # by an earlier order of ours, whose connection was lost
        Save-FpRebootNote -BootId $BootId -Run $run -Said taken
        Write-FpOrdered -BootId $BootId -Again $true
        return
    }
    $what = if ($done.ExitCode -eq 1190) { 'a shutdown is scheduled already' } else { 'it is shutting down already' }
    Save-FpRebootNote -BootId $BootId -Run $run -Said foreign -Why "${what}: $words"
    Deny-FpOrder -Why "${what}: $words" -About inhibitor
}

$boot = Get-FpBootId
Invoke-FpOrder -More ([ordered]@{ boot_id = $boot }) -Order {
    $expected = Get-FpParam -Name expected_boot_id
    if (-not $boot) { Deny-FpOrder -Why 'the machine does not show its boot id, so a reboot could not be proven' }
    if ($boot -ne $expected) { Deny-FpOrder -Why "it has rebooted already: its boot id is $boot, not $expected" }
    $mutex = $null
    try {
        if (Test-Path -LiteralPath $FpJobs) { # else no run has the lock, and no job runs
            Initialize-FpJobs
            $mutex = Enter-FpMutex
        }
        Invoke-FpRebootOrder -BootId $boot
    } finally {
        if ($null -ne $mutex) { $mutex.Dispose() }
    }
}
