# A function that runs a command of the operator. The parameter "policy" is the execution policy for it.

# What runs the command: PowerShell, so that a command can be any of its commands, or a program with arguments. An error
# fails the command; a program's exit code is the command's; and so does $false as its last output.
$FpCommandRunner = @'
$ProgressPreference = 'SilentlyContinue'
try {
    [System.Console]::OutputEncoding = New-Object -TypeName System.Text.UTF8Encoding -ArgumentList $false
} catch {
    Write-Verbose -Message 'there is no console'
}
$text = $env:FLEETPATCH_COMMAND
$env:FLEETPATCH_COMMAND = $null
$env:FLEETPATCH_RUNNER = $null
$state = @{ Failed = $false; Last = $null }
$global:LASTEXITCODE = 0
try {
    & ([ScriptBlock]::Create($text)) 2>&1 | ForEach-Object -Process {
        $state.Last = $_
        if ($_ -isnot [System.Management.Automation.ErrorRecord]) { return $_ }
        if ($_.FullyQualifiedErrorId -notlike 'NativeCommandError*') { $state.Failed = $true }
        "$_"
    } | Out-String -Stream -Width 200 | ForEach-Object -Process { [System.Console]::Out.WriteLine($_) }
} catch {
    [System.Console]::Out.WriteLine("$_")
    $state.Failed = $true
}
if ($global:LASTEXITCODE) { exit $global:LASTEXITCODE }
if ($state.Failed -or ($state.Last -is [bool] -and -not $state.Last)) { exit 1 }
exit 0
'@

function Get-FpPowerShellPath { # the PowerShell that runs this
    foreach ($name in 'powershell.exe', 'pwsh.exe', 'pwsh') {
        $path = Join-Path -Path $PSHOME -ChildPath $name
        if (Test-Path -LiteralPath $path -PathType Leaf) { return $path }
    }
    throw "there is no PowerShell in $PSHOME"
}

function Complete-FpProcess { # ends a process with all its children, if it still runs
    param([System.Diagnostics.Process] $Process)
    if ($Process.HasExited) { return }
    try {
        $null = Invoke-FpProgram -Name taskkill.exe -Arguments '/T', '/F', '/PID', "$($Process.Id)"
    } catch {
        Write-Verbose -Message "$_"
    }
    try {
        if (-not $Process.WaitForExit(3000)) { $Process.Kill() }
    } catch {
        Write-Verbose -Message "$_"
    }
}

# Reads both streams until the process has ended, keeps the last characters, and returns them.
function Read-FpProcess {
    param([System.Diagnostics.Process] $Process, [int] $Seconds, [int] $Characters)
    $tail = ''
    $sources = foreach ($reader in $Process.StandardOutput, $Process.StandardError) {
        $buffer = [char[]]::new(8192)
        @{ Reader = $reader; Buffer = $buffer; Task = $reader.ReadAsync($buffer, 0, $buffer.Length) }
    }
    $open = @($sources)
    $watch = [System.Diagnostics.Stopwatch]::StartNew()
    $grace = $null # a child that goes on may keep the streams open
    while ($open.Count -and $watch.Elapsed.TotalSeconds -lt $Seconds) {
        $tasks = [System.Threading.Tasks.Task[]] @($open | ForEach-Object -Process { $_.Task })
        $null = [System.Threading.Tasks.Task]::WaitAny($tasks, 100)
        $isQuiet = $true
        foreach ($source in @($open | Where-Object -FilterScript { $_.Task.IsCompleted })) {
            $isQuiet = $false
            $count = $source.Task.Result
            if ($count -eq 0) {
                $open = @($open | Where-Object -FilterScript { -not [object]::ReferenceEquals($_, $source) })
                continue
            }
            $tail += [string]::new($source.Buffer, 0, $count)
            if ($tail.Length -gt $Characters) { $tail = $tail.Substring($tail.Length - $Characters) }
            $source.Task = $source.Reader.ReadAsync($source.Buffer, 0, $source.Buffer.Length)
        }
        if ($isQuiet -and $Process.HasExited) {
            if ($null -eq $grace) { $grace = [System.Diagnostics.Stopwatch]::StartNew() }
            if ($grace.Elapsed.TotalSeconds -gt 2) { break }
        }
    }
    $tail
}

# Runs a command. Its timeout ends it with all its children: it is no package transaction. Returns its exit code (124 if
# the timeout has ended it), the end of its output, and whether the timeout has ended it.
function Invoke-FpCommand {
    param([string] $Command, [int] $Seconds, [System.Collections.IDictionary] $Environment = @{})
    $start = [System.Diagnostics.ProcessStartInfo]::new((Get-FpPowerShellPath))
    $start.Arguments = "-NoProfile -NonInteractive -OutputFormat Text -ExecutionPolicy $(Get-FpParam -Name policy) " +
        '-Command "& ([ScriptBlock]::Create($env:FLEETPATCH_RUNNER))"'
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.RedirectStandardInput = $start.RedirectStandardOutput = $start.RedirectStandardError = $true
    $start.StandardOutputEncoding = $start.StandardErrorEncoding = [System.Text.UTF8Encoding]::new($false)
    $start.WorkingDirectory = $env:SystemRoot
    foreach ($name in $Environment.Keys) { $start.EnvironmentVariables[$name] = [string] $Environment[$name] }
    $start.EnvironmentVariables['FLEETPATCH_RUNNER'] = $FpCommandRunner
    $start.EnvironmentVariables['FLEETPATCH_COMMAND'] = $Command
    $process = [System.Diagnostics.Process]::Start($start)
    try {
        $process.StandardInput.Close()
        $watch = [System.Diagnostics.Stopwatch]::StartNew()
        $text = Read-FpProcess -Process $process -Seconds $Seconds -Characters 4000
        $left = [int] [System.Math]::Max(0, ($Seconds - $watch.Elapsed.TotalSeconds) * 1000)
        if ($process.WaitForExit($left)) {
            return @{ ExitCode = $process.ExitCode; Text = $text.Replace("`r`n", "`n"); TimedOut = $false }
        }
        Complete-FpProcess -Process $process
        @{ ExitCode = 124; Text = $text.Replace("`r`n", "`n"); TimedOut = $true }
    } finally {
        $process.Dispose()
    }
}

function Get-FpSeconds { # the parameter "timeout": whole seconds, at least one
    param([int] $Default)
    $text = Get-FpParam -Name timeout
    if ($text -notmatch '^[0-9]{1,6}$') { return $Default }
    [System.Math]::Max(1, [int] $text)
}
