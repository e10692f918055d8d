# Functions that find the ports on which programs listen.
# Requires: programs

# Lines of netstat, for systems without Get-NetTCPConnection (2008 R2). Its words are in the system's language, so the
# state is not read: only a listener has the foreign port 0.
function ConvertFrom-FpNetstat {
    param([string] $Text)
    foreach ($line in $Text -split "`r?`n") {
        if ($line -match '^\s*TCP\s+\S+:([0-9]+)\s+\S+:0\s+\S+\s+([0-9]+)\s*$') {
            @{ Port = [int] $Matches[1]; Process = [int] $Matches[2] }
        }
    }
}

function Get-FpListener { # the port and the process of each TCP listener
    if (Get-Command -Name Get-NetTCPConnection -ErrorAction SilentlyContinue) {
        foreach ($found in Get-NetTCPConnection -State Listen -ErrorAction Stop) {
            @{ Port = [int] $found.LocalPort; Process = [int] $found.OwningProcess }
        }
        return
    }
    $told = Invoke-FpProgram -Name netstat.exe -Arguments '-a', '-n', '-o', '-p', 'TCP'
    if ($told.ExitCode -ne 0) { throw "netstat.exe failed ($($told.ExitCode)): $($told.Output)" }
    ConvertFrom-FpNetstat -Text $told.Output
}

# The ports that Windows gives to programs that name none: its RPC services listen there, at each boot on other ones.
function Get-FpDynamicRange {
    param([string] $Text)
    $found = [System.Text.RegularExpressions.Regex]::Matches($Text, ':\s*([0-9]{1,5})\s*(\r?\n|$)')
    $numbers = @($found | ForEach-Object -Process { [int] $_.Groups[1].Value })
    if ($numbers.Count -lt 2) { return '49152 65535' } # the default
    "$($numbers[0]) $([System.Math]::Min(65535, $numbers[0] + $numbers[1] - 1))"
}

function Get-FpServiceName { # the process of each running service -> its services
    $names = @{}
    $question = @{ ClassName = 'Win32_Service'; Filter = "State='Running'"; OperationTimeoutSec = 8 }
    $running = Get-CimInstance @question -ErrorAction SilentlyContinue
    foreach ($service in @($running)) {
        $process = [int] $service.ProcessId
        $others = if ($names.ContainsKey($process)) { "$($names[$process]), " } else { '' }
        $names[$process] = $others + $service.Name
    }
    $names
}

# One record "socket" for each port and each program: a service has its own name, because many are in a svchost.exe.
function Write-FpListeners {
    $services = Get-FpServiceName
    $programs = @{}
    foreach ($process in Get-Process -ErrorAction SilentlyContinue) {
        $programs[[int] $process.Id] = $process.ProcessName
    }
    $told = @{}
    foreach ($listener in @(Get-FpListener)) {
        $program = ''
        if ($services.ContainsKey($listener.Process)) { $program = $services[$listener.Process] }
        elseif ($programs.ContainsKey($listener.Process)) { $program = $programs[$listener.Process] }
        $key = "$($listener.Port) $program"
        if ($told.ContainsKey($key)) { continue }
        $told[$key] = $true
        Write-FpRecord -Kind socket -Fields ([ordered]@{
                name = "tcp/$($listener.Port)"; uid = $null; program = $program; cgroup = ''
            })
    }
    $range = ''
    try {
        $question = 'interface', 'ipv4', 'show', 'dynamicport', 'tcp'
        $range = (Invoke-FpProgram -Name netsh.exe -Arguments $question).Output
    } catch {
        Write-Verbose -Message "no range of dynamic ports: $_"
    }
    Write-FpRecord -Kind ports -Fields ([ordered]@{ ephemeral = Get-FpDynamicRange -Text $range; reserved = '' })
}
