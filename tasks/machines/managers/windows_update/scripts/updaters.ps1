# Pauses Automatic Updates while a run works on the machine (the policy NoAutoUpdate), or restores exactly what the run
# has changed. The request asks for that (native_updaters: pause). A task of the machine restores it when the lock
# expires, whatever happens to the run. Policies of a domain come back with the next refresh of group policies.
# Parameters: work (pause or restore); lock_run, lock_attempt, lock_until (the run and the attempt that sent this);
# undo (updaters_back.ps1's text); policy (the execution policy of the task).
# Records: paused (unit), back (unit, how), failed (unit, why), left (unit, why), running (unit), untimed (why: it is
# back only at the end of the run), nothing (why), refused (why).
# Step: install
# Changes: which of the system's own updaters are paused. All come back
# Requires: job_common, registry_values, unfinished_packages, updaters_back
# Brings: undo=updaters_back

$work = Get-FpParam 'work'
$run = Get-FpParam 'lock_run'
$attempt = ConvertTo-FpNumber (Get-FpParam 'lock_attempt')
$until = ConvertTo-FpNumber (Get-FpParam 'lock_until')
$file = Join-Path -Path (Get-FpRoot) -ChildPath 'updaters'
$taskName = 'FleetPatch-updaters'
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
    # The machine restores the policy by itself when the lock expires; returns why it can't, or ''.
    $held = Get-FpLock
    $at = [System.Math]::Max($held.Until, (Get-FpNow) + 60)
    $script = "$file.ps1"
    $quoted = $script.Replace("'", "''")
    $text = "`$ErrorActionPreference = 'Stop'; . ([ScriptBlock]::Create([System.IO.File]::ReadAllText('$quoted')))"
    $quotedFile = $file.Replace("'", "''")
    $quotedRun = $run.Replace("'", "''")
    $end = @(
        ''
        "`$pause = Read-FpPause -Path '$quotedFile'"
        "if (`$null -ne `$pause -and `$pause.Run -ceq '$quotedRun') {"
        '    $null = Restore-FpAutomaticUpdates -Pause $pause'
        "    [System.IO.File]::Delete('$quotedFile')"
        '}'
        "Remove-FpPauseTask -Name '$taskName'"
    ) -join "`n"
    try {
        Save-FpText -Path $script -Text ((Get-FpParam 'undo') + $end)
        $service = New-Object -ComObject 'Schedule.Service'
        $null = $service.Connect()
        $definition = $service.NewTask(0)
        $definition.RegistrationInfo.Description = 'Restores Automatic Updates if fleetpatch does not come back.'
        $definition.Principal.UserId = 'S-1-5-18'
        $definition.Principal.LogonType = 5
        $definition.Principal.RunLevel = 1
        $definition.Settings.DisallowStartIfOnBatteries = $false
        $definition.Settings.StopIfGoingOnBatteries = $false
        $definition.Settings.StartWhenAvailable = $true # also if the machine is off at that time
        $trigger = $definition.Triggers.Create(1) # at a time
        # invariant: the system's language may have other years (Thai), or no colons (Finnish)
        $invariant = [System.Globalization.CultureInfo]::InvariantCulture
        $moment = [System.DateTime]::new(621355968000000000 + $at * 10000000)
        $trigger.StartBoundary = $moment.ToString('yyyy-MM-ddTHH:mm:ss', $invariant) + 'Z'
        $action = $definition.Actions.Create(0)
        $shell = Join-Path -Path (Join-Path -Path $env:SystemRoot -ChildPath 'System32') -ChildPath 'WindowsPowerShell'
        $action.Path = Join-Path -Path (Join-Path -Path $shell -ChildPath 'v1.0') -ChildPath 'powershell.exe'
        $policy = Get-FpParam 'policy'
        $action.Arguments = "-NoProfile -NonInteractive -ExecutionPolicy $policy -Command `"$text`""
        $null = $service.GetFolder('\').RegisterTaskDefinition($taskName, $definition, 6, $null, $null, 5)
        return ''
    } catch {
        return (Get-FpErrorMessage $_)
    }
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
    # set.
    $had = 'no'
    if ($noted.HadKey) { $had = 'yes' }
    Save-FpText -Path $file -Text "$run`n$had`n$($noted.Was)`n$taskName`n"
    $why = Register-FpPauseTask
    if ($why -ne '') { Write-FpRecord 'untimed' ([ordered]@{ why = $why }) }
    try {
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
    [System.IO.File]::Delete($file)
    [System.IO.File]::Delete("$file.ps1")
    Remove-FpPauseTask -Name $pause.Task
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
