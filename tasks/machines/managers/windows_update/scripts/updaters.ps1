# Pauses Automatic Updates while a run works on the machine (the policy NoAutoUpdate), or restores exactly what the run
# has changed. The request asks for that (native_updaters: pause). A task of the machine restores it when the lock
# expires, whatever happens to the run. Policies of a domain come back with the next refresh of group policies.
# Parameters: work (pause or restore); lock_run, lock_attempt, lock_until (the run and the attempt that sent this);
# undo (updaters_back.ps1's text).
# Records: paused (unit), back (unit, how), failed (unit, why: it is not paused, or still is), left (unit, why), running
# (unit), nothing (why), refused (why).
# Step: install
# Changes: which of the system's own updaters are paused. All come back
# Requires: job_common, registry_values, task_scheduler, task_start, unfinished_packages, updaters_back
# Brings: undo=updaters_back

$work = Get-FpParam 'work'
$run = Get-FpParam 'lock_run'
$attempt = ConvertTo-FpNumber (Get-FpParam 'lock_attempt')
$until = ConvertTo-FpNumber (Get-FpParam 'lock_until')
$folder = Join-Path -Path (Get-FpRoot) -ChildPath 'pause' # of the task that restores it
$file = Join-Path -Path $folder -ChildPath 'updaters'
$patience = 60
$unit = 'Automatic Updates'

function Confirm-FpOrder {
    # Refuses an order of a run or attempt that does not have the machine lock; a restoration is only refused to an
    # earlier attempt.
    $void = Test-FpLock -Run $run -Attempt $attempt
    if (-not $void.Why) {
        if ($work -eq 'pause') { Save-FpHeldLock -Held $void.Held -Attempt $attempt -Until $until }
    } elseif ($work -ne 'restore' -or $void.Held.Run -ceq $run) {
        if ($work -ne 'restore' -or $attempt -lt $void.Held.Attempt) { Deny-FpOrder -Why $void.Why -About machine_lock }
    }
}

function Register-FpPauseTask {
    # The machine restores the policy by itself when the lock expires. Returns why it would not, or '': the task runs at
    # once, too, and restores nothing then. So what stops it (a virus scanner, AppLocker) is known before the pause.
    $at = [System.Math]::Max((Get-FpLock).Until, (Get-FpNow) + 2 * $patience)
    $end = @(
        ''
        "if ([System.DateTime]::UtcNow.Ticks -lt $(621355968000000000 + ($at - $patience) * 10000000)) {"
        "    Set-Content -LiteralPath (Join-Path -Path `$FpJobDirectory -ChildPath seen) -Value (Get-FpNoAutoUpdate)"
        '    return'
        '}'
        '$pause = Read-FpPause -Path (Join-Path -Path $FpJobDirectory -ChildPath updaters)'
        'if ($null -ne $pause) { $null = Restore-FpAutomaticUpdates -Pause $pause }'
        'Unregister-FpTask -Id updaters'
        '[System.IO.Directory]::Delete($FpJobDirectory, $true)'
    ) -join "`n"
    try {
        $null = [System.IO.Directory]::CreateDirectory($folder)
        foreach ($name in 'seen', 'note') { [System.IO.File]::Delete((Join-Path -Path $folder -ChildPath $name)) }
        Save-FpText -Path (Join-Path -Path $folder -ChildPath 'run.ps1') -Text ((Get-FpParam 'undo') + $end)
        $task = Register-FpTask -Id updaters -Folder $folder -Limit 'PT10M' -At $at
        return (Start-FpTask -Task $task -Id updaters -Folder $folder -Mark 'seen' -Patience $patience)
    } catch {
        return (Get-FpErrorMessage $_)
    }
}

function Remove-FpPause {
    Unregister-FpTask -Id updaters
    [System.IO.File]::Delete($file)
    try { [System.IO.Directory]::Delete($folder, $true) } catch { Write-Verbose -Message "${folder}: $_" }
}

function Write-FpUnit {
    param([string] $Kind, [string] $Name, [string] $Text)
    $fields = [ordered]@{ unit = $unit }
    if ($Name -ne '') { $fields[$Name] = $Text }
    Write-FpRecord $Kind $fields
}

function Test-FpInstallsItself {
    # Whether Automatic Updates installs without being asked: on a schedule (4), or as its administrator likes (5).
    # Without a setting, a server only downloads, and a client installs.
    $option = Get-FpRegistryNumber $FpAutomaticKey 'AUOptions'
    if ($null -eq $option) {
        $local = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update'
        $option = Get-FpRegistryNumber $local 'AUOptions'
    }
    if ($null -ne $option) { return ($option -eq 4 -or $option -eq 5) }
    $version = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    return ([string](Get-FpRegistryValue $version 'InstallationType') -eq 'Client')
}

function Suspend-FpAutomaticUpdates {
    $noted = Read-FpPause -Path $file
    $now = Get-FpNoAutoUpdate
    if ($null -eq $noted -and -not (Test-FpInstallsItself)) {
        Write-FpRecord 'nothing' ([ordered]@{ why = 'Automatic Updates installs nothing by itself' })
        return
    }
    if ($now -eq '1' -and ($null -eq $noted)) {
        Write-FpRecord 'nothing' ([ordered]@{ why = 'a policy has switched Automatic Updates off' })
        return
    }
    if ($null -eq $noted -or $now -ne '1') {
        $noted = @{ HadKey = (Test-Path -LiteralPath $FpAutomaticKey); Was = $now }
    }
    # A lost run may have left it paused: then what was before is in its file. All of it is noted before anything is
    # set, and what the machine would not restore is not paused.
    $why = Register-FpPauseTask
    try {
        if ($why) {
            if ($now -eq '1') { $null = Restore-FpAutomaticUpdates -Pause $noted }
            Remove-FpPause
            Deny-FpOrder -Why "the machine would not restore it by itself: $why"
        }
        $had = if ($noted.HadKey) { 'yes' } else { 'no' }
        Save-FpText -Path $file -Text "$run`n$had`n$($noted.Was)`n"
        if (-not (Test-Path -LiteralPath $FpAutomaticKey)) { $null = New-Item -Path $FpAutomaticKey -Force }
        $null = New-ItemProperty -LiteralPath $FpAutomaticKey -Name 'NoAutoUpdate' -Value 1 -PropertyType DWord -Force
        Write-FpUnit -Kind 'paused'
    } catch {
        Write-FpUnit -Kind 'failed' -Name 'why' -Text (Get-FpErrorMessage $_)
    }
    $who = Find-FpUnfinished
    if ($who -ne '') { Write-FpRecord 'running' ([ordered]@{ unit = $who }) }
}

function Resume-FpAutomaticUpdates {
    $pause = Read-FpPause -Path $file
    if ($null -eq $pause -or $pause.Run -cne $run) {
        Write-FpRecord 'nothing' ([ordered]@{ why = 'this run has none rest here' })
        return
    }
    try {
        if ((Restore-FpAutomaticUpdates -Pause $pause) -eq 'left') {
            Write-FpUnit -Kind 'left' -Name 'why' -Text 'its owner has changed the policy meanwhile'
        } else {
            Write-FpUnit -Kind 'back' -Name 'how' -Text 'it is as it was'
        }
    } catch {
        Write-FpUnit -Kind 'failed' -Name 'why' -Text (Get-FpErrorMessage $_)
        return
    }
    Remove-FpPause
}

Invoke-FpOrder -Order {
    Initialize-FpJobs
    $mutex = Enter-FpMutex
    try {
        Confirm-FpOrder
        switch ($work) {
            'pause' { Suspend-FpAutomaticUpdates }
            'restore' { Resume-FpAutomaticUpdates }
            default { Deny-FpOrder -Why "not known: $work" }
        }
    } finally {
        $mutex.Dispose()
    }
}
