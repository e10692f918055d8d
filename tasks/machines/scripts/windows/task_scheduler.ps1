# Functions that name and remove the scheduled tasks of jobs (see task_start.ps1).

function Get-FpTaskName {
    param([string] $Id)
    "FleetPatch-$Id"
}

function Connect-FpTaskFolder { # the service and its top folder
    $service = New-Object -ComObject Schedule.Service
    $null = $service.Connect()
    @{ Service = $service; Folder = $service.GetFolder('\') }
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
