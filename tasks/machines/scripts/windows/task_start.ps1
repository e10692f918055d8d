# Functions that run a job as a scheduled task: as SYSTEM, outside of the WinRM shell, which ends all its processes when
# it closes. They need job_common and task_scheduler.

$lookFor = 'what stopped it is in the event logs of this time: Microsoft-Windows-Windows Defender/Operational, ' +
    'Microsoft-Windows-PowerShell/Operational, Microsoft-Windows-AppLocker/MSI and Script, ' +
    'Microsoft-Windows-CodeIntegrity/Operational, or in that of another virus scanner; allow there what fleetpatch runs'

# The arguments for powershell.exe. Not -File: a group policy may allow only signed files. -MTA: a job may call the
# Update Agent from two threads. The folder's name is the only text in it that is not always the same. The parameter
# "policy" is the execution policy. If Windows does not let the job's text run, the file "note" says why: in the
# constrained language, only commands can write it, and nothing of .NET.
function Get-FpTaskArguments {
    param([string] $Folder)
    $quoted = $Folder.Replace("'", "''")
    $text = "`$ErrorActionPreference = 'Stop'; `$FpJobDirectory = '$quoted'; try { " +
        '. ([ScriptBlock]::Create([System.IO.File]::ReadAllText(' +
        '(Join-Path -Path $FpJobDirectory -ChildPath run.ps1)))) } catch { ' +
        '$FpWhy = ''its text was not run: {0} ({1}, {2})'' -f $_, $_.FullyQualifiedErrorId, ' +
        '$ExecutionContext.SessionState.LanguageMode; Set-Content -Encoding UTF8 -Value $FpWhy ' +
        '-LiteralPath (Join-Path -Path $FpJobDirectory -ChildPath note); exit 1 }'
    "-NoProfile -NonInteractive -MTA -ExecutionPolicy $(Get-FpParam -Name policy) -Command `"$text`""
}

# Registers a job's task, or replaces it; returns it. The limit is how long it may run (PT0S: for ever). It would end
# the job in the middle, so only a job that changes nothing may have one. It runs when it is asked to, and with $At
# (epoch seconds) also then, and every hour until it is removed.
function Register-FpTask {
    param([string] $Id, [string] $Folder, [string] $Limit = 'PT0S', [long] $At = 0)
    $tasks = Connect-FpTaskFolder
    $definition = $tasks.Service.NewTask(0)
    $definition.RegistrationInfo.Description = "A job of fleetpatch. It is removed at its end. Its files: $Folder"
    $definition.Principal.UserId = 'S-1-5-18'
    $definition.Principal.LogonType = 5 # a service account
    $definition.Principal.RunLevel = 1 # with all its rights
    $settings = $definition.Settings
    $settings.ExecutionTimeLimit = $Limit
    $settings.DisallowStartIfOnBatteries = $false
    $settings.StopIfGoingOnBatteries = $false
    $settings.IdleSettings.StopOnIdleEnd = $false
    $settings.StartWhenAvailable = [bool] $At # also if the machine is off at that time
    if ($At) {
        $trigger = $definition.Triggers.Create(1) # at a time
        # invariant: the system's language may have other years (Thai), or no colons (Finnish)
        $invariant = [System.Globalization.CultureInfo]::InvariantCulture
        $moment = [System.DateTime]::new(621355968000000000 + $At * 10000000)
        $trigger.StartBoundary = $moment.ToString('yyyy-MM-ddTHH:mm:ss', $invariant) + 'Z'
        $trigger.Repetition.Interval = 'PT1H'
    }
    $settings.MultipleInstances = 2 # a second start is ignored
    $settings.Priority = 5 # a normal process; 7, the default, has a low priority for disks too
    $action = $definition.Actions.Create(0)
    $shell = Join-Path -Path (Join-Path -Path $env:SystemRoot -ChildPath 'System32') -ChildPath 'WindowsPowerShell'
    $action.Path = Join-Path -Path (Join-Path -Path $shell -ChildPath 'v1.0') -ChildPath 'powershell.exe'
    $action.Arguments = Get-FpTaskArguments -Folder $Folder
    $tasks.Folder.RegisterTaskDefinition((Get-FpTaskName -Id $Id), $definition, 6, $null, $null, 5)
}

# What is known of the task of a job that did not begin: Words, and Ended: whether its process has ended.
function Get-FpTaskState {
    param([string] $Id)
    try {
        $tasks = Connect-FpTaskFolder
        $task = $tasks.Folder.GetTask((Get-FpTaskName -Id $Id))
        $state, $result = [int] $task.State, [int] $task.LastTaskResult
        $waiting = 0x41301, 0x41303, 0x41325 # it runs, has not run yet, or is queued
        @{
            Words = 'its task has state {0} and last result 0x{1:X}' -f $state, $result
            Ended = ($state -eq 3 -and $waiting -notcontains $result) # 3: it is ready to run again
        }
    } catch {
        @{ Words = "its task can't be read: $(Get-FpCause $_)"; Ended = $false }
    }
}

# Runs a task, and waits until its process has made the file MARK in its folder. It must begin within so many seconds.
# Returns why it never does, or ''.
function Start-FpTask {
    param($Task, [string] $Id, [string] $Folder, [string] $Mark, [int] $Patience)
    try {
        $null = $Task.RunEx($null, 2, 0, '') # even if a condition of the task is not met
    } catch {
        return "the task scheduler did not run it: $(Get-FpCause $_)"
    }
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    $look = @{ Next = 0.0; Ended = $null }
    while (-not [System.IO.File]::Exists((Join-Path -Path $Folder -ChildPath $Mark))) {
        $why = Find-FpFailedStart -Id $Id -Folder $Folder -Patience $Patience -Watch $watch -Look $look
        if ($why) { return $why }
        Start-Sleep -Milliseconds 50
    }
    ''
}

# Why a job that has not begun is waited for no longer, or ''. Its process writes a note only if it does not begin. A
# task that was just ordered may still show its last end: it counts once it has been seen for three seconds.
function Find-FpFailedStart {
    param([string] $Id, [string] $Folder, [int] $Patience, $Watch, [hashtable] $Look)
    $seconds = $Watch.Elapsed.TotalSeconds
    $hasNote = [System.IO.File]::Exists((Join-Path -Path $Folder -ChildPath 'note'))
    if (-not $hasNote -and $seconds -lt [System.Math]::Min($Look.Next, $Patience)) { return '' }
    $Look.Next = $seconds + 1
    $task = Get-FpTaskState -Id $Id
    $note = "$(Read-FpText -Path (Join-Path -Path $Folder -ChildPath 'note'))".Trim()
    if ($note -like 'its text was not run*') { $note += "; $lookFor" }
    if ($note) { return "$($task.Words); $note" }
    if ($seconds -gt $Patience) { return "within $Patience seconds, $($task.Words)" }
    if (-not $task.Ended) { $Look.Ended = $null; return '' }
    if ($null -eq $Look.Ended) { $Look.Ended = $seconds }
    if ($seconds - $Look.Ended -lt 3) { return '' }
    "its process ended before it ran fleetpatch's text ($($task.Words)): $lookFor"
}
