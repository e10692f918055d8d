# Functions that call programs of Windows.

# Runs a program of System32 and waits for its end. Returns its exit code and its output, both streams together.
function Invoke-FpProgram {
    param([string] $Name, [string[]] $Arguments)
    $ErrorActionPreference = 'Continue' # 5.1 takes a line on stderr for an error
    $path = Join-Path -Path (Join-Path -Path $env:SystemRoot -ChildPath 'System32') -ChildPath $Name
    $lines = @(& $path @Arguments 2>&1 | ForEach-Object -Process { [string] $_ })
    @{ ExitCode = $LASTEXITCODE; Output = ($lines -join "`n").Trim() }
}
