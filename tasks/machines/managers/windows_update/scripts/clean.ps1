# Shows what fleetpatch has left on the machine, or removes that, for a person. Nothing is removed while a job runs, a
# run has the machine lock, or a reboot is under way; and nothing that has not fleetpatch's marks.
# Parameters: remove ("yes"), and then what was shown before: lock (run, attempt and until, with blanks), jobs (list of
# ids: others are not removed).
# Records: lock (run, by, until, attempt: who has it; job: what runs; now); job (id, phase, run, ended, label); item
# (what, path), or with remove: removed (what, path), failed (what, path, why); left (path, why: it is not
# fleetpatch's); updater (unit, how); refused (why, about), changed.
# Step: order
# Changes: it removes what fleetpatch left
# Requires: job_common, task_scheduler, servicing, updaters_back

$root = Get-FpRoot
$isRemoving = Test-FpParam -Name remove
$deleteFolder = { param($path) [System.IO.Directory]::Delete($path, $true) }
$pauseFolder = Join-Path -Path $root -ChildPath 'pause'

function Write-FpLeft {
    param([string] $Path, [string] $Why)
    Write-FpRecord -Kind left -Fields ([ordered]@{ path = $Path; why = $Why })
}

function Invoke-FpItem { # shows a thing, or removes it
    param([string] $What, [string] $Path, [scriptblock] $Remove)
    $fields = [ordered]@{ what = $What; path = $Path }
    if (-not $isRemoving) { Write-FpRecord -Kind item -Fields $fields; return }
    try {
        & $Remove $Path
        Write-FpRecord -Kind removed -Fields $fields
    } catch {
        $fields['why'] = Get-FpCause $_
        Write-FpRecord -Kind failed -Fields $fields
    }
}

function Test-FpLink {
    param([string] $Path)
    [bool] ([System.IO.File]::GetAttributes($Path) -band [System.IO.FileAttributes]::ReparsePoint)
}

function Test-FpIsJob { # whether a folder has the marks of a job
    param([string] $Folder)
    if (Test-FpLink -Path $Folder) { return $false }
    foreach ($name in 'label', 'params.json') {
        if (-not [System.IO.File]::Exists((Join-Path -Path $Folder -ChildPath $name))) { return $false }
    }
    $true
}

function Get-FpJobId { # the ids of all jobs
    if (-not [System.IO.Directory]::Exists($FpJobs)) { return }
    foreach ($folder in [System.IO.Directory]::GetDirectories($FpJobs)) {
        if (Test-FpIsJob -Folder $folder) { Split-Path -Leaf -Path $folder }
    }
}

function Write-FpJobs {
    param([string[]] $Ids)
    foreach ($id in $Ids) {
        $folder = Join-Path -Path $FpJobs -ChildPath $id
        $job = Get-FpJob -Folder $folder
        $params = Read-FpJson -Path (Join-Path -Path $folder -ChildPath 'params.json')
        Write-FpRecord -Kind job -Fields ([ordered]@{
                id = $id; phase = $job.Phase; run = (Get-FpField -Object $params -Name lock_run); ended = $job.Ended
                label = (Get-FpLabel -Folder $folder)
            })
    }
}

function Confirm-FpClean { # refuses what must not begin; returns whether it may
    param($Held, [string] $Busy, [string[]] $Ids)
    if ($Busy) { Deny-FpOrder -Why "job $Busy is running" -About job }
    if ($Held.Until -gt (Get-FpNow)) {
        Deny-FpOrder -Why "run $($Held.Run) ($($Held.By)) has the lock of this machine" -About machine_lock
    }
    $note = Read-FpRebootNote -BootId (Get-FpBootId)
    if ($null -ne $note -and $note.Said -eq 'taken' -and $null -eq (Find-FpAbort -Note $note)) {
        Deny-FpOrder -Why 'a reboot was ordered' -About reboot
    }
    if (-not $isRemoving) { return $true }
    $known = @(Get-FpListParam -Name jobs)
    $isSame = "$($Held.Run) $($Held.Attempt) $($Held.Until)" -ceq (Get-FpParam -Name lock)
    if ($isSame -and -not @($Ids | Where-Object -FilterScript { $known -cnotcontains $_ }).Count) { return $true }
    Write-FpRecord -Kind changed -Fields ([ordered]@{ run = $Held.Run })
    $false
}

function Clear-FpPause { # what a run has paused is restored first; returns whether the rest may go
    if (-not [System.IO.Directory]::Exists($pauseFolder)) { return $true }
    $pause = Read-FpPause -Path (Join-Path -Path $pauseFolder -ChildPath 'updaters')
    if ($isRemoving -and $null -ne $pause) {
        try {
            $how = Restore-FpAutomaticUpdates -Pause $pause
            Write-FpRecord -Kind updater -Fields ([ordered]@{ unit = 'Automatic Updates'; how = $how })
        } catch {
            $fields = [ordered]@{ what = 'paused updaters'; path = $pauseFolder; why = (Get-FpCause $_) }
            Write-FpRecord -Kind failed -Fields $fields
            return $false
        }
    }
    Invoke-FpItem -What 'paused updaters' -Path $pauseFolder -Remove $deleteFolder
    $true
}

function Clear-FpTasks { # of jobs, and of the pause
    param([string[]] $Ids)
    $tasks = Connect-FpTaskFolder
    $names = @(@($Ids) + 'updaters' | ForEach-Object -Process { Get-FpTaskName -Id $_ })
    foreach ($task in @($tasks.Folder.GetTasks(1))) {
        $name = [string] $task.Name
        if ($names -cnotcontains $name) {
            if ($name -clike 'FleetPatch-*') { Write-FpLeft -Path "task $name" -Why 'it is of no job that is here' }
            continue
        }
        Invoke-FpItem -What task -Path $name -Remove { param($path) $null = $tasks.Folder.DeleteTask($path, 0) }
    }
}

function Clear-FpFiles { # the folder, without what is not fleetpatch's
    param([string[]] $Ids)
    foreach ($id in $Ids) {
        $folder = Join-Path -Path $FpJobs -ChildPath $id
        Invoke-FpItem -What job -Path $folder -Remove $deleteFolder
    }
    $names = 'machine-lock', 'reboot'
    foreach ($name in @($names) + @($names | ForEach-Object -Process { "$_.new" })) {
        $path = Join-Path -Path $root -ChildPath $name
        if (-not [System.IO.File]::Exists($path)) { continue }
        Invoke-FpItem -What 'file of fleetpatch' -Path $path -Remove { param($path) [System.IO.File]::Delete($path) }
    }
}

function Clear-FpComponents { # their files; what others put beside them stays
    $place = Join-Path -Path $root -ChildPath 'components'
    if (-not [System.IO.Directory]::Exists($place) -or (Test-FpLink -Path $place)) { return }
    $marks = '\A([0-9a-f]{64}(\.part)?|install\.msi)\z' # its digest, an unfinished one, or its name for a tool
    $what = 'file of a component'
    $folders = @([System.IO.Directory]::GetDirectories($place))
    $folders = @($folders | Where-Object -FilterScript { -not (Test-FpLink -Path $_) })
    foreach ($folder in $folders) {
        foreach ($path in [System.IO.Directory]::GetFiles($folder)) {
            if ((Split-Path -Leaf -Path $path) -cnotmatch $marks) { continue }
            Invoke-FpItem -What $what -Path $path -Remove { param($path) [System.IO.File]::Delete($path) }
        }
    }
    if (-not $isRemoving) { return }
    foreach ($folder in @($folders) + $place) {
        if (-not [System.IO.Directory]::GetFileSystemEntries($folder).Length) { [System.IO.Directory]::Delete($folder) }
    }
}

function Clear-FpFolder { # the empty folders, after the lock was given back
    $known = $FpJobs, (Get-FpMutexPath -Reads $false), (Get-FpMutexPath -Reads $true)
    $places = @([System.IO.Directory]::GetFileSystemEntries($root))
    if ([System.IO.Directory]::Exists($FpJobs)) { $places += [System.IO.Directory]::GetFileSystemEntries($FpJobs) }
    $others = @($places | Where-Object -FilterScript { $known -cnotcontains $_ })
    if ($isRemoving) {
        $why = 'it is not fleetpatch''s, or it could not be removed'
        foreach ($path in $others) { Write-FpLeft -Path $path -Why $why }
        if ($others.Count) { return }
    }
    Invoke-FpItem -What folder -Path $root -Remove {
        param($path)
        foreach ($mutex in $known[1..2]) { [System.IO.File]::Delete($mutex) }
        if ([System.IO.Directory]::Exists($FpJobs)) { [System.IO.Directory]::Delete($FpJobs) }
        [System.IO.Directory]::Delete($path)
    }
}

function Invoke-FpClean { # returns whether the folders may go
    $held = Get-FpLock
    $busy = Find-FpRunningJob
    $record = [ordered]@{ run = $held.Run; by = $held.By; until = $held.Until; attempt = $held.Attempt }
    $record.job, $record.now = $busy, (Get-FpNow)
    Write-FpRecord -Kind lock -Fields $record
    $ids = @(Get-FpJobId)
    Write-FpJobs -Ids $ids
    if (-not (Confirm-FpClean -Held $held -Busy $busy -Ids $ids)) { return $false }
    if (-not [System.IO.Directory]::Exists($root)) { Clear-FpTasks -Ids $ids; return $false }
    $fault = Test-FpFolder -Path $root
    if ($fault) { Write-FpLeft -Path $root -Why $fault; return $false }
    if (-not (Clear-FpPause)) { return $false }
    Clear-FpTasks -Ids $ids
    Clear-FpFiles -Ids $ids
    Clear-FpComponents
    $true
}

Invoke-FpOrder -Order {
    $mutex = $null
    if ($isRemoving -and [System.IO.Directory]::Exists($FpJobs)) { $mutex = Enter-FpMutex }
    $isReady = $false
    try { $isReady = Invoke-FpClean } finally { if ($null -ne $mutex) { $mutex.Dispose() } }
    if ($isReady) { Clear-FpFolder }
}
