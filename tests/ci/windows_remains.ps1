# After the job on Windows: shows what fleetpatch has left, and removes the account. Fails for a task, or for a folder
# that others may enter.
$ErrorActionPreference = 'Stop'
$faults = @()
$folder = Join-Path -Path $env:SystemRoot -ChildPath 'FleetPatch'
if (Test-Path -LiteralPath $folder) {
    Get-ChildItem -LiteralPath $folder -Recurse | ForEach-Object -Process { Write-Output $_.FullName }
    $sddl = (Get-Acl -LiteralPath $folder).Sddl
    Write-Output $sddl
    foreach ($who in [regex]::Matches($sddl, '\(A;[^)]*;([^;)]+)\)')) {
        if ($who.Groups[1].Value -notin 'SY', 'BA') { $faults += "the folder is open to $($who.Groups[1].Value)" }
    }
}
foreach ($task in Get-ScheduledTask -TaskName 'FleetPatch*' -ErrorAction SilentlyContinue) {
    $faults += "the task $($task.TaskName) is left"
}
Remove-LocalUser -Name fleetpatch -ErrorAction SilentlyContinue
Write-Output $faults
if ($faults.Count) { exit 1 }
