# Functions that run a job as a scheduled task: as SYSTEM, outside of the WinRM shell, which ends all its processes when
# it closes. A task has no trigger, so it runs only when it is asked to.

function Get-FpTaskName {
    param([string] $Id)
    "FleetPatch-$Id"
}

function Connect-FpTaskFolder { # the service and its top folder
    $service = New-Object -ComObject Schedule.Service
    $null = $service.Connect()
    @{ Service = $service; Folder = $service.GetFolder('\') }
}

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
# the job in the middle, so only a job that changes nothing may have one.
function Register-FpTask {
    param([string] $Id, [string] $Folder, [string] $Limit = 'PT0S')
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
    $settings.StartWhenAvailable = $false
    $settings.MultipleInstances = 2 # a second start is ignored
    $settings.Priority = 5 # a normal process; 7, the default, has a low priority for disks too
    $action = $definition.Actions.Create(0)
    $shell = Join-Path -Path (Join-Path -Path $env:SystemRoot -ChildPath 'System32') -ChildPath 'WindowsPowerShell'
    $action.Path = Join-Path -Path (Join-Path -Path $shell -ChildPath 'v1.0') -ChildPath 'powershell.exe'
    $action.Arguments = Get-FpTaskArguments -Folder $Folder
    $tasks.Folder.RegisterTaskDefinition((Get-FpTaskName -Id $Id), $definition, 6, $null, $null, 5)
}

function Unregister-FpTask { # a task that is not there is no error
    param([string] $Id)
    try {
        $tasks = Connect-FpTaskFolder
        $null = $tasks.Folder.DeleteTask((Get-FpTaskName -Id $Id), 0)
    } catch {
        Write-Verbose -Message "task of job ${Id}: $_"
    }
}

function Clear-FpLostTasks { # a job removes its task at its end, and one that was lost could not
    foreach ($folder in [System.IO.Directory]::GetDirectories($FpJobs)) {
        if ((Get-FpJob -Folder $folder).Phase -eq 'lost') { Unregister-FpTask -Id (Split-Path -Leaf -Path $folder) }
    }
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
