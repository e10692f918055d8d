# Functions that the job scripts and machine_lock.ps1 share.
# Requires: job_folder, job_files, folders

# Makes the folder of jobs, or refuses the order.
function Initialize-FpJobs {
    Initialize-FpFolder -Path (Get-FpRoot)
    Initialize-FpFolder -Path $FpJobs
}

# Executes an order. If it is refused (Deny-FpOrder), it answers with the record "refused": why and about (machine_lock,
# room, "unsure": an earlier order may still be executed, window, lock, packages, inhibitor, or ''), and more fields.
function Invoke-FpOrder {
    param([scriptblock] $Order, [System.Collections.IDictionary] $More = @{})
    try {
        & $Order
    } catch {
        $refusal = $_.TargetObject
        if ($refusal -isnot [hashtable] -or -not $refusal.ContainsKey('FpRefused')) { throw }
        $record = [ordered]@{ why = $refusal.FpRefused; about = $refusal.About }
        foreach ($name in $More.Keys) { $record[$name] = $More[$name] }
        if ($record.Contains('holder')) { $record['holder'] = $refusal.Holder }
        Write-FpRecord -Kind refused -Fields $record
    }
}

# After Test-FpLock, stores what an order says: a later attempt, or a later end of the lock.
function Save-FpHeldLock {
    param([System.Collections.IDictionary] $Held, [long] $Attempt, [long] $Until)
    if ($Attempt -le $Held.Attempt -and $Until -le $Held.Until) { return }
    $later = [System.Math]::Max($Until, $Held.Until)
    Save-FpLock -Run $Held.Run -Until $later -By $Held.By -Attempt $Attempt -Kind $Held.Kind
}

# Asks a job to stop between two transactions. $By is the other run for which it is to stop, or ''. A request without it
# keeps an earlier one, with its reason.
function Request-FpStop {
    param([string] $Folder, [string] $By)
    $path = Join-Path -Path $Folder -ChildPath 'stop'
    try {
        if ($By) {
            Save-FpText -Path $path -Text "$By`n"
        } else {
            $share = [System.IO.FileShare] 'ReadWrite, Delete'
            $mode = [System.IO.FileMode]::OpenOrCreate
            [System.IO.File]::Open($path, $mode, [System.IO.FileAccess]::Write, $share).Dispose()
        }
        $true
    } catch {
        [System.IO.File]::Exists($path)
    }
}

function Get-FpLabel {
    param([string] $Folder)
    "$(Read-FpText -Path (Join-Path -Path $Folder -ChildPath 'label'))".Trim()
}
