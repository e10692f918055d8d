# Looks at PowerShell scripts with PSScriptAnalyzer. Each line of stdin is a file's path, a tab, and "machine" if
# Windows PowerShell 5.1 of a machine runs it, or "here" if this PowerShell does. Prints a line for each finding.
$ErrorActionPreference = 'Stop'
Import-Module -Name (Join-Path -Path $PSHOME -ChildPath '../modules/PSScriptAnalyzer') -ErrorAction SilentlyContinue
if (-not (Get-Module -Name PSScriptAnalyzer)) { Import-Module -Name PSScriptAnalyzer }
$profiles = @('derived-win_10.0.14393_5.1.14393.206_framework')
$compatible = @{
    PSUseCompatibleSyntax = @{ Enable = $true; TargetVersions = @('5.1') }
    PSUseCompatibleCommands = @{ Enable = $true; TargetProfiles = $profiles }
    PSUseCompatibleTypes = @{ Enable = $true; TargetProfiles = $profiles }
}
while ($null -ne ($line = [System.Console]::In.ReadLine())) {
    $path, $where = $line -split "`t"
    $settings = @{
        IncludeDefaultRules = $true
        Rules = if ($where -eq 'machine') { $compatible } else { @{} }
        # for commands that a person calls, with -WhatIf
        ExcludeRules = @('PSUseShouldProcessForStateChangingFunctions')
    }
    foreach ($found in Invoke-ScriptAnalyzer -Path $path -Settings $settings) {
        [System.Console]::Out.WriteLine("${path}:$($found.Line): $($found.RuleName): $($found.Message)")
    }
    [System.Console]::Out.WriteLine("looked at $path")
}
