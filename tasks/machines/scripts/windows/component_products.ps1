# Functions that find what is installed: products of Windows Installer, and the tools of winget and Chocolatey.

function Get-FpProducts {
    # The installed products with this display name: hashtables with Version and Code.
    param([Parameter(Mandatory = $true, Position = 0)][string] $Name)
    $places = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall',
        'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall'
    foreach ($place in $places) {
        if (-not (Test-Path -LiteralPath $place)) { continue }
        foreach ($key in @(Get-ChildItem -LiteralPath $place)) {
            if ([string]$key.GetValue('DisplayName', '') -cne $Name) { continue }
            @{ Version = [string]$key.GetValue('DisplayVersion', ''); Code = [string]$key.PSChildName }
        }
    }
}

function Get-FpWinget {
    # The path of winget; SYSTEM has no alias of it. '' if it is not there.
    $command = Get-Command -Name winget.exe -CommandType Application -ErrorAction SilentlyContinue |
        Select-Object -First 1
    if ($null -ne $command) { return $command.Source }
    $pattern = Join-Path -Path $env:ProgramFiles -ChildPath 'WindowsApps\Microsoft.DesktopAppInstaller_*_8wekyb3d8bbwe'
    $newest = Get-Item -Path $pattern -ErrorAction SilentlyContinue | Sort-Object -Property Name | Select-Object -Last 1
    if ($null -eq $newest) { return '' }
    $path = Join-Path -Path $newest.FullName -ChildPath 'winget.exe'
    if ([System.IO.File]::Exists($path)) { return $path }
    return ''
}

function Get-FpChoco {
    # The path of Chocolatey; '' if it is not there. Services have the PATH from before it was installed.
    $command = Get-Command -Name choco.exe -CommandType Application -ErrorAction SilentlyContinue |
        Select-Object -First 1
    if ($null -ne $command) { return $command.Source }
    $path = Join-Path -Path $env:ProgramData -ChildPath 'chocolatey\bin\choco.exe'
    if ([System.IO.File]::Exists($path)) { return $path }
    return ''
}

function Invoke-FpTool {
    # Runs a program to its end, whatever its exit code is. Returns that, and its output.
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Path,
        [Parameter(Mandatory = $true, Position = 1)][string[]] $Arguments
    )
    $ErrorActionPreference = 'Continue' # 5.1 takes a line on stderr for an error
    $lines = @(& $Path @Arguments 2>&1 | ForEach-Object -Process { [string]$_ })
    return @{ ExitCode = $LASTEXITCODE; Text = ($lines -join "`n") }
}
