# Says how long this system has run, and powers it off if nothing is against that. Parameters: work (look, check: only
# say whether it may be powered off; off), run (whose order it is), delay (whole seconds).
# Records: power (boot_id, up_seconds), and then, unless the work is look: refused (why, about: machine_lock, job,
# people, lock, inhibitor, or ""), allowed, or ordered. The answer is sent before the machine goes down.
# Step: end
# Changes: it powers the machine off, if the run has powered it on
# Requires: job_common, privilege_level, servicing

function Find-FpPeople { # who has a session with a desktop or a shell of its own, or ''
    $found = @(Get-Process -Name explorer, sihost, rdpclip -ErrorAction SilentlyContinue)
    if (-not $found.Count) { return '' }
    'a session runs ' + ((@($found | ForEach-Object -Process { $_.ProcessName }) | Sort-Object -Unique) -join ', ')
}

function Find-FpRefusal { # why it may not be powered off: @{ About; Why }, or nothing
    if ((Get-FpPrivilege) -ne 'administrator') { return @{ About = ''; Why = 'the login is no administrator' } }
    $held = Get-FpLock
    $run = Get-FpParam -Name run
    if ($held.Run -and $held.Run -cne $run -and $held.Until -gt (Get-FpNow)) {
        return @{ About = 'machine_lock'; Why = "run $($held.Run) ($($held.By)) has it" }
    }
    $job = Find-FpRunningJob
    if ($job) { return @{ About = 'job'; Why = "the job $job is still running" } }
    $people = Find-FpPeople
    if ($people) { return @{ About = 'people'; Why = "somebody is logged in: $people" } }
    Find-FpObstacle -Note (Read-FpRebootNote -BootId $boot) -Run $run
}

function Invoke-FpPowerOff {
    $delay = [System.Math]::Max(2, (ConvertTo-FpNumber (Get-FpParam -Name delay -Default 5))) # the answer goes first
    $comment = "fleetpatch, run $(Get-FpParam -Name run): off again after updates (boot $boot)"
    $done = Invoke-FpProgram -Name shutdown.exe -Arguments '/s', '/t', "$delay", '/d', 'p:2:17', '/c', $comment
    if ($done.ExitCode -eq 0) { Write-FpRecord -Kind ordered -Fields ([ordered]@{ again = $false }); return }
    $why = "shutdown.exe failed ($($done.ExitCode)): $($done.Output)"
    Write-FpRecord -Kind refused -Fields ([ordered]@{ why = $why; about = 'inhibitor' })
}

$boot = Get-FpBootId
Write-FpRecord -Kind power -Fields ([ordered]@{ boot_id = $boot; up_seconds = Get-FpUptime })
$work = Get-FpParam -Name work
$refusal = if ($work -cin 'check', 'off') { Find-FpRefusal }
if ($null -ne $refusal) {
    Write-FpRecord -Kind refused -Fields ([ordered]@{ why = $refusal.Why; about = $refusal.About })
} elseif ($work -ceq 'off') {
    Invoke-FpPowerOff
} elseif ($work -ceq 'check') {
    Write-FpRecord -Kind allowed -Fields ([ordered]@{ boot_id = $boot })
}
