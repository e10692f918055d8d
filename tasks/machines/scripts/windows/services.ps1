# Functions that read how Windows starts its services, and what became of those that do not run.

# All services: @{ Name; Status; Start (automatic, manual, disabled, trigger: by an event; or unknown); IsLate;
# IsOfUser }. How one is started is read from the registry: .NET before 4.6.1 does not know it, and later ones fail for
# a service that may not be opened.
function Get-FpService {
    $starts = @{ 2 = 'automatic'; 3 = 'manual'; 4 = 'disabled' }
    $top = 'HKLM:\SYSTEM\CurrentControlSet\Services'
    foreach ($service in Get-Service -ErrorAction SilentlyContinue) {
        $path = Join-Path -Path $top -ChildPath $service.Name
        $key = Get-Item -LiteralPath $path -ErrorAction SilentlyContinue
        $found = @{ Name = $service.Name; Status = "$($service.Status)" }
        $found += @{ Start = 'unknown'; IsLate = $false; IsOfUser = $false }
        if ($null -ne $key) {
            $start = $starts[$key.GetValue('Start', 0)]
            if ($start) { $found.Start = $start }
            $events = Join-Path -Path $path -ChildPath TriggerInfo
            if ($start -in 'automatic', 'manual' -and (Test-Path -LiteralPath $events)) { $found.Start = 'trigger' }
            $found.IsLate = $key.GetValue('DelayedAutostart', 0) -eq 1
            $type = $key.GetValue('Type', 0)
            $found.IsOfUser = $type -isnot [string] -and [bool] ($type -band 0x40)
        }
        $found
    }
}

function Get-FpSqlServer { # its services, without the Windows Internal Database, a part of Windows
    Get-Service -Name 'MSSQLSERVE[R]', 'MSSQL$*' | Where-Object -FilterScript { $_.Name -ne 'MSSQL$MICROSOFT##WID' }
}

function Read-FpExitCodes { # of services that have ended: name -> exit code; empty if WMI does not answer
    $codes = @{}
    $question = @{ ClassName = 'Win32_Service'; OperationTimeoutSec = 8; ErrorAction = 'Stop' }
    try {
        foreach ($service in @(Get-CimInstance @question -Filter "StartMode='Auto' AND State='Stopped'")) {
            $codes[[string] $service.Name] = [long] $service.ExitCode
        }
    } catch {
        Write-Verbose -Message "no exit codes of services: $_"
    }
    $codes
}
