# In Windows PowerShell 5.1 on Windows: it must parse all scripts for machines, and the analyzer must find nothing.
$ErrorActionPreference = 'Stop'
if (-not (Get-Module -ListAvailable -Name PSScriptAnalyzer)) { # hosted runners may have it for PowerShell 7 only
    Install-Module -Name PSScriptAnalyzer -Scope CurrentUser -Force
}
Import-Module -Name PSScriptAnalyzer
$profiles = @('win-8_x64_10.0.14393.0_5.1.14393.2791_x64_4.0.30319.42000_framework') # Server 2016; the module brings it
$settings = @{
    IncludeDefaultRules = $true
    Rules = @{
        PSUseCompatibleSyntax = @{ Enable = $true; TargetVersions = @('5.1') }
        PSUseCompatibleCommands = @{ Enable = $true; TargetProfiles = $profiles }
    }
    ExcludeRules = @('PSUseShouldProcessForStateChangingFunctions')
}
$top = Split-Path -Parent -Path (Split-Path -Parent -Path $PSScriptRoot)
$count = 0
$faults = @()
foreach ($file in Get-ChildItem -Path (Join-Path -Path $top -ChildPath 'tasks') -Recurse -Filter '*.ps1') {
    $count++
    $problems = $null
    $null = [System.Management.Automation.Language.Parser]::ParseFile($file.FullName, [ref] $null, [ref] $problems)
    foreach ($problem in $problems) {
        $faults += "$($file.FullName):$($problem.Extent.StartLineNumber): $($problem.Message)"
    }
    foreach ($found in Invoke-ScriptAnalyzer -Path $file.FullName -Settings $settings) {
        $faults += "$($file.FullName):$($found.Line): $($found.RuleName): $($found.Message)"
    }
}
Write-Output $faults
Write-Output "PowerShell $($PSVersionTable.PSVersion): $count scripts, $($faults.Count) faults"
if ($faults.Count -or -not $count) { exit 1 }
