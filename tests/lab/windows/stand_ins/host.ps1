# The warm PowerShell of one machine: host.ps1 -Folder <machine> -Assembly <stand-ins> -Requests <fd> -Answers <fd>
# It runs requests (see host.cs) until the other end of its requests closes.
param(
    [Parameter(Mandatory = $true)][string] $Folder,
    [Parameter(Mandatory = $true)][string] $Assembly,
    [Parameter(Mandatory = $true)][int] $Requests,
    [Parameter(Mandatory = $true)][int] $Answers
)
$ErrorActionPreference = 'Stop'
Add-Type -Path $Assembly
[FleetPatch.StandIns.Host]::Serve($Folder, $Requests, $Answers)
