# Functions that report settings of the machine that would stop or endanger a patch run: records "finding" (check;
# level: "remark", "warn" or "block"; message; remedy). They change nothing. A setting that can't be read is not
# reported.

function Write-FpFinding {
    param([string] $Level, [string] $Message, [string] $Remedy, [string] $Check = 'settings')
    $record = [ordered]@{ check = $Check; level = $Level; message = $Message; remedy = $Remedy }
    Write-FpRecord -Kind finding -Fields $record
}

# A setting of WinRM by its path, such as Shell\MaxShellsPerUser; '' if it can't be read. An administrator may read it.
function Get-FpWinrmSetting {
    param([string] $Path)
    try {
        [string] (Get-Item -Path "WSMan:\localhost\$Path" -ErrorAction Stop).Value
    } catch {
        Write-Verbose -Message "${Path}: $_"
        ''
    }
}

# The certificates of WinRM's listeners: @{ Thumbprint; Until (UTC) }.
function Get-FpListenerCertificate {
    foreach ($listener in Get-ChildItem -Path 'WSMan:\localhost\Listener' -ErrorAction Stop) {
        $place = "WSMan:\localhost\Listener\$($listener.Name)"
        $thumbprint = [string] (Get-Item -Path "$place\CertificateThumbprint" -ErrorAction Stop).Value -replace '\s', ''
        if (-not $thumbprint) { continue } # HTTP
        $found = Get-Item -LiteralPath "Cert:\LocalMachine\My\$thumbprint" -ErrorAction SilentlyContinue
        if ($null -ne $found) { @{ Thumbprint = $thumbprint; Until = $found.NotAfter.ToUniversalTime() } }
    }
}

$FpSmallestQuotas = [ordered]@{
    'Shell\MaxMemoryPerShellMB' = 1024
    'Shell\MaxShellsPerUser' = 10
    'Shell\MaxProcessesPerShell' = 10
    'Service\MaxConcurrentOperationsPerUser' = 15
}

function Write-FpQuotaFindings {
    foreach ($path in $FpSmallestQuotas.Keys) {
        $number = [long] 0
        if (-not [long]::TryParse((Get-FpWinrmSetting -Path $path), [ref] $number)) { continue }
        if ($number -eq 0 -or $number -ge $FpSmallestQuotas[$path]) { continue } # 0: no limit
        $message = "the WinRM quota $path is $number; with less than $($FpSmallestQuotas[$path]), scripts may be ended"
        Write-FpFinding -Level warn -Message $message -Remedy (
            "Set-Item WSMan:\localhost\$path $($FpSmallestQuotas[$path]) there, or in the group policy that sets it.")
    }
    if ((Get-FpWinrmSetting -Path 'Service\AllowUnencrypted') -eq 'true') {
        $message = 'WinRM accepts messages that are not encrypted, so also passwords that anybody can read'
        $remedy = 'Set-Item WSMan:\localhost\Service\AllowUnencrypted false there. fleetpatch never needs it.'
        Write-FpFinding -Level warn -Message $message -Remedy $remedy
    }
}

function Write-FpCertificateFindings {
    $now = [System.DateTime]::UtcNow
    foreach ($certificate in Get-FpListenerCertificate) {
        $days = [System.Math]::Floor(($certificate.Until - $now).TotalDays)
        if ($days -ge 14) { continue }
        $what = if ($days -lt 0) { 'has expired' } else { "expires in $days days" }
        $message = "the certificate of the WinRM listener $what ($($certificate.Thumbprint))"
        $remedy = 'Renew it, give the listener the new one, and correct winrm.certificate_thumbprint if it is pinned.'
        Write-FpFinding -Level warn -Message $message -Remedy $remedy
    }
}

# Jobs run as tasks of the Task Scheduler.
function Write-FpSchedulerFinding {
    $service = Get-Service -Name Schedule -ErrorAction SilentlyContinue
    if ($null -ne $service -and "$($service.Status)" -eq 'Running') { return }
    $remedy = 'Set-Service Schedule -StartupType Automatic; Start-Service Schedule.'
    Write-FpFinding -Level block -Message 'the Task Scheduler does not run: no job can be started' -Remedy $remedy
}

# Scripts come as commands, so that no execution policy prevents them; but Windows' own modules have script files too.
function Write-FpExecutionPolicyFinding {
    $path = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\PowerShell'
    if (-not (Test-Path -LiteralPath $path)) { return }
    $key = Get-Item -LiteralPath $path
    $isOff = $key.GetValue('EnableScripts', 1) -eq 0
    $policy = [string] $key.GetValue('ExecutionPolicy', '')
    if (-not $isOff -and $policy -ne 'AllSigned') { return }
    $what = if ($isOff) { 'forbids scripts' } else { 'allows signed scripts only' }
    $remedy = 'If facts are missing, set "Turn on Script Execution" to RemoteSigned for servers.'
    $message = "a group policy $what (PowerShell): some modules of Windows may not load, so that facts are missing"
    Write-FpFinding -Level remark -Message $message -Remedy $remedy
}

# A cumulative update unpacks some GB, and keeps what it replaces.
function Write-FpRoomFinding {
    param([string] $Drive, [double] $Free)
    if ($Free -ge 10 * 1073741824) { return }
    $level = if ($Free -lt 2 * 1073741824) { 'block' } else { 'warn' }
    $gib = [System.Math]::Round($Free / 1073741824, 1).ToString([System.Globalization.CultureInfo]::InvariantCulture)
    $remedy = 'Remove what is not needed (Dism.exe /Online /Cleanup-Image /StartComponentCleanup), or enlarge it.'
    $message = "$Drive has $gib GiB free; a cumulative update of Windows may need 10 GiB"
    Write-FpFinding -Check disk -Level $level -Message $message -Remedy $remedy
}

function Write-FpProcessFinding {
    if (-not [System.Environment]::Is64BitOperatingSystem -or [System.Environment]::Is64BitProcess) { return }
    $message = 'WinRM starts a 32-bit PowerShell on this 64-bit system: it sees another registry and other files'
    $remedy = 'Look at the PATH of the login: System32\WindowsPowerShell\v1.0 must come before SysWOW64.'
    Write-FpFinding -Level block -Message $message -Remedy $remedy
}

# A run pauses Automatic Updates until its end. Without it, a task restores that when the run's lock ends.
function Write-FpPauseFinding {
    $pause, $lock, $note = 'pause\updaters', 'machine-lock', 'pause\note' | ForEach-Object -Process {
        $path = Join-Path -Path (Get-FpRoot) -ChildPath $_
        , (@(Get-Content -LiteralPath $path -ErrorAction SilentlyContinue) + '', '0')
    }
    $policy = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU'
    if (-not $pause[0] -or (Read-FpValue -Path $policy -Name NoAutoUpdate) -ne 1) { return }
    if ($lock[0] -ceq $pause[0] -and [long] $lock[1] + 300 -gt (Get-FpNow)) { return }
    $message = "run $($pause[0]) has paused Automatic Updates, and its task has not restored that when its lock ended"
    if ($note[0]) { $message += ": $($note[0])" }
    $remedy = 'fleetpatch machines clean restores it, and so does the end of the next run with native_updaters: pause.'
    Write-FpFinding -Check auto-updater -Level warn -Message $message -Remedy $remedy
}

function Write-FpSettingFindings {
    $parts = @(
        { Write-FpQuotaFindings }, { Write-FpCertificateFindings }, { Write-FpSchedulerFinding }
        { Write-FpExecutionPolicyFinding }, { Write-FpProcessFinding }, { Write-FpPauseFinding }
    )
    foreach ($part in $parts) {
        try { & $part } catch { Write-Verbose -Message "${part}: $_" }
    }
}
