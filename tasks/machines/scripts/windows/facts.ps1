# Reports facts about the machine. Parameter: root (the folder of fleetpatch). Records: os, kernel, clock, privilege,
# manager, runner, hardware, disk (one for each role), service, socket (one for each and each program that holds it),
# ports, services, run (of a service), routes, roles, runtime, finding (see settings.ps1); or refused (why, remedy), if
# this system can't be driven. It changes nothing; but the first script of a boot gives it an id. A part of Windows that
# does not answer leaves its own records out.
# Step: assess
# Changes: nothing
# Requires: privilege_level, listeners, services, settings

function Read-FpValue { # a value of the registry, or ''
    param([string] $Path, [string] $Name)
    if (-not (Test-Path -LiteralPath $Path)) { return '' }
    $value = (Get-Item -LiteralPath $Path).GetValue($Name, '')
    if ($null -eq $value) { '' } else { $value }
}

function Read-FpClass { # objects of WMI, which may hang where a disk does not answer
    param([string] $Name, [string] $Filter = '')
    $question = @{ ClassName = $Name; OperationTimeoutSec = 8; ErrorAction = 'Stop' }
    if ($Filter) { $question.Filter = $Filter }
    Get-CimInstance @question
}

function Read-FpSystem { # what the registry says: it answers also where WMI is broken
    $path = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    $build = "$(Read-FpValue -Path $path -Name CurrentBuild)"
    $revision = "$(Read-FpValue -Path $path -Name UBR)" # before Server 2016, systems may have none
    $name = "$(Read-FpValue -Path $path -Name ProductName)"
    # Windows 11 says there that it is Windows 10
    if ($build -match '^[0-9]+$' -and [int] $build -ge 22000) { $name = $name -replace '^Windows 10', 'Windows 11' }
    $type = "$(Read-FpValue -Path $path -Name InstallationType)"
    if ($type -notin '', 'Server', 'Client') { $name = "$name ($type)" } # Server Core, Nano Server
    @{ Name = $name; Version = if ($revision) { "$build.$revision" } else { $build } }
}

function Write-FpDisk {
    param([string[]] $Roles, [string] $Mount, [double] $Total, [double] $Free, [bool] $IsReadOnly)
    foreach ($role in $Roles) {
        Write-FpRecord -Kind disk -Fields ([ordered]@{
                role = $role; mount = $Mount; total_kib = [long] [System.Math]::Floor($Total / 1024)
                free_kib = [long] [System.Math]::Floor($Free / 1024); free_files = $null; read_only = $IsReadOnly
            })
    }
}

# The system drive has everything that updates need. The reserved partition is small by design, so it has a role of its
# own: Windows needs only some MiB there.
function Write-FpDisks {
    $drive = if ($env:SystemDrive) { $env:SystemDrive } else { 'C:' }
    foreach ($disk in @(Read-FpClass -Name Win32_LogicalDisk -Filter "DeviceID='$drive'")) {
        $access = $disk.PSObject.Members['Access']
        $isReadOnly = $null -ne $access -and $access.Value -eq 1
        $room = @{ Total = $disk.Size; Free = $disk.FreeSpace }
        Write-FpDisk -Roles system, packages -Mount $drive @room -IsReadOnly $isReadOnly
        Write-FpRoomFinding -Drive $drive -Free $disk.FreeSpace
    }
    foreach ($volume in @(Read-FpClass -Name Win32_Volume -Filter 'SystemVolume=True')) {
        if ($volume.DriveLetter -eq $drive) { continue }
        $room = @{ Total = $volume.Capacity; Free = $volume.FreeSpace }
        Write-FpDisk -Roles reserved -Mount $volume.Name @room -IsReadOnly $false
    }
}

# Adds to the record "services" which services run, which have ended without an error (exit code 0), and which are still
# to be started; writes a record "service" for each other one. A service with a delayed start often ends when it has
# done its work: exit code 0 says nothing then. Exit code 1077: it was not started since the boot.
function Write-FpServices {
    param([System.Collections.IDictionary] $Record)
    # Those that Windows starts by itself. Not those that it starts on an event, because these end when they have
    # nothing to do, and not those of a logged in user, which have another name at each login.
    $services = @(Get-FpService | Where-Object { $_.Start -eq 'automatic' -and -not $_.IsOfUser })
    $Record.running = @($services | Where-Object { $_.Status -eq 'Running' } | ForEach-Object { $_.Name })
    $others = @($services | Where-Object { $_.Status -ne 'Running' })
    if (-not $others.Count) { return }
    $codes = Read-FpExitCodes
    $ended = @()
    $late = @()
    foreach ($service in $others) {
        $code = $codes[$service.Name] # nothing: unknown, or it is just being started or stopped
        if ($service.IsLate -and ($code -eq 0 -or -not $codes.Count)) { continue }
        if ($code -eq 0) {
            $ended += $service.Name
            continue
        }
        if ($service.IsLate -and $code -eq 1077) { $late += $service.Name }
        Write-FpRecord -Kind service -Fields @{ name = $service.Name }
    }
    $Record.ended = $ended
    $Record.late = $late
    $delay = Read-FpValue -Path 'HKLM:\SYSTEM\CurrentControlSet\Control' -Name AutoStartDelay
    $Record.late_start = if ($delay -is [int] -and $delay -ge 0 -and $delay -lt 3600) { $delay } else { 120 }
}

# The runs of running services, which end with their processes. Windows counts no ends, and does not say who started
# one.
function Write-FpServiceRuns {
    param([string[]] $Names)
    $question = @{ OperationTimeoutSec = 20; ErrorAction = 'Stop' }
    $begins = @{}
    foreach ($process in @(Get-CimInstance -ClassName Win32_Process -Property ProcessId, CreationDate @question)) {
        if (-not $process.CreationDate) { continue }
        $begins[[long] $process.ProcessId] = ([datetime] $process.CreationDate).ToUniversalTime()
    }
    $now = [datetime]::UtcNow
    foreach ($service in @(Get-CimInstance -ClassName Win32_Service -Filter "State='Running'" @question)) {
        $began = $begins[[long] $service.ProcessId]
        if ($Names -notcontains $service.Name -or $null -eq $began) { continue }
        $record = [ordered]@{ name = [string] $service.Name; run = "$($service.ProcessId)@$($began.Ticks)" }
        $record.restarts = $null
        $record.age = ($now - $began).TotalSeconds
        $record.again = $true
        Write-FpRecord -Kind run -Fields $record
    }
}

function Write-FpPrivilege {
    $way = 'none'
    try { $way = Get-FpPrivilege } catch { Write-Verbose -Message "$_" }
    $record = [ordered]@{ uid = $null; way = $way; why = ''; remedy = '' }
    if ($way -eq 'filtered') {
        $record.way = 'none'
        $record.why = 'the login is a local administrator, and Windows takes their rights away over the network'
        $record.remedy = 'Use a domain account or the account Administrator, or set LocalAccountTokenFilterPolicy to 1.'
    } elseif ($way -ne 'administrator') {
        $record.why = 'the login is no administrator'
        $record.remedy = 'Add it to the local group Administrators.'
    }
    Write-FpRecord -Kind privilege -Fields $record
}

function Write-FpBasics {
    $system = Read-FpSystem
    $record = [ordered]@{ id = 'windows'; like = ''; version = $system.Version; name = $system.Name }
    Write-FpRecord -Kind os -Fields $record
    $boot = ''
    try { $boot = Get-FpBootId } catch { Write-Verbose -Message "no boot id: $_" } # without administrator rights
    $kind = [string] $env:PROCESSOR_ARCHITECTURE
    if (-not $kind) { $kind = if ([System.Environment]::Is64BitOperatingSystem) { 'AMD64' } else { 'x86' } }
    $record = [ordered]@{ release = $system.Version; arch = $kind; boot_id = $boot; uptime = Get-FpUptime }
    # nothing in a login with NTLM proves which machine answers
    $record.machine_id = "$(Read-FpValue -Path (Get-FpParam -Name machine_id_key) -Name MachineGuid)"
    $record.boot_time = $null
    try {
        $record.boot_time = (Read-FpClass -Name Win32_OperatingSystem).LastBootUpTime
    } catch {
        Write-Verbose -Message "no time of the boot: $_"
    }
    Write-FpRecord -Kind kernel -Fields $record
    $now = ((Get-FpSystemTime).Ticks - 621355968000000000) / 10000000.0
    Write-FpRecord -Kind clock -Fields @{ epoch = $now }
    Write-FpPrivilege
    if (Get-Service -Name wuauserv -ErrorAction SilentlyContinue) {
        Write-FpRecord -Kind manager -Fields ([ordered]@{ name = 'windows-update'; program = '' })
    }
    # a container is updated as an image, by its host
    $container = "$(Read-FpValue -Path 'HKLM:\SYSTEM\CurrentControlSet\Control' -Name ContainerType)"
    Write-FpRecord -Kind runner -Fields ([ordered]@{
            name = 'task-scheduler'; can_reboot = ($container -eq '')
            container = if ($container) { 'windows' } else { '' }
        })
    $framework = Read-FpValue -Path 'HKLM:\SOFTWARE\Microsoft\NET Framework Setup\NDP\v4\Full' -Name Release
    Write-FpRecord -Kind runtime -Fields ([ordered]@{
            powershell = $PSVersionTable.PSVersion.ToString(); framework = "$framework"
            language = "$($ExecutionContext.SessionState.LanguageMode)"
        })
}

# What the machine is: tasks/rules/machine_checks/machine_kind.py decides by it. HypervisorPresent is also true on a
# physical machine with virtualization-based security, so only false says something.
function Write-FpHardware {
    $container = "$(Read-FpValue -Path 'HKLM:\SYSTEM\CurrentControlSet\Control' -Name ContainerType)"
    $system = Read-FpClass -Name Win32_ComputerSystem
    $engines = foreach ($name in 'docker', 'containerd', 'kubelet') {
        $service = Get-Service -Name $name -ErrorAction SilentlyContinue
        if ($service -and "$($service.Status)" -eq 'Running') { $name }
    }
    $agent = Join-Path -Path "$env:ProgramData" -ChildPath 'AzureConnectedMachineAgent\Config\agentconfig.json'
    $present = $system.PSObject.Members['HypervisorPresent']
    Write-FpRecord -Kind hardware -Fields ([ordered]@{
            vendor = "$($system.Manufacturer)"; product = "$($system.Model)"; model = ''; xen = ''
            hypervisor = if ($null -ne $present -and $present.Value -eq $false) { $false } else { $null }
            container = if ($container) { 'windows' } else { '' }
            engines = @($engines) -join ' '; arc = [bool] (Test-Path -LiteralPath $agent)
        })
}

function Write-FpRoutes {
    $question = @{ ClassName = 'Win32_NetworkAdapterConfiguration'; Filter = 'IPEnabled=TRUE' }
    $cards = @(Get-CimInstance @question -OperationTimeoutSec 20 -ErrorAction Stop)
    $families = foreach ($gateway in $cards.DefaultIPGateway) {
        if (-not $gateway -or $gateway -in '0.0.0.0', '::') { continue }
        if ("$gateway".Contains(':')) { 'IPv6' } else { 'IPv4' }
    }
    Write-FpRecord -Kind routes -Fields @{ default = (@($families) | Sort-Object -Unique) -join ' ' }
}

# What others need the machine for: the record "roles" (names), with the name that it shares with others of that role.
function Write-FpRoles {
    $system = 'HKLM:\SYSTEM\CurrentControlSet'
    $names = @()
    if ((Read-FpValue -Path "$system\Control\ProductOptions" -Name ProductType) -eq 'LanmanNT') {
        $domain = "$(Read-FpValue -Path "$system\Services\Tcpip\Parameters" -Name Domain)"
        $names += "domain controller of $($domain.ToLowerInvariant())"
    }
    if ((Read-FpValue -Path "$system\Services\ClusSvc" -Name Start) -in 2, 3) {
        $names += "node of the cluster $(Read-FpValue -Path 'HKLM:\Cluster' -Name ClusterName)"
    }
    foreach ($service in @(Get-Service -Name 'vmm[s]') + @(Get-FpSqlServer)) { # that none is there is no error
        if ("$($service.Status)" -ne 'Running') { continue }
        $names += if ($service.Name -eq 'vmms') { 'Hyper-V host' } else { 'SQL Server' }
    }
    Write-FpRecord -Kind roles -Fields @{ names = @($names | Select-Object -Unique) }
}

function Invoke-FpPart { # returns whether a part of the facts could be read
    param([string] $Name, [scriptblock] $Part)
    try {
        & $Part
        $true
    } catch {
        [System.Console]::Error.WriteLine("${Name}: $(Get-FpErrorMessage $_)")
        $false
    }
}

$needed = [System.Version] '5.1'
if ($PSVersionTable.PSVersion -lt $needed) {
    Write-FpRecord -Kind refused -Fields ([ordered]@{
            why = "it has Windows PowerShell $($PSVersionTable.PSVersion), and 5.1 is the oldest that works"
            remedy = 'Install the Windows Management Framework 5.1 on it.'
        })
} else {
    Write-FpBasics
    $null = Invoke-FpPart -Name disks -Part { Write-FpDisks }
    $null = Invoke-FpPart -Name hardware -Part { Write-FpHardware }
    $null = Invoke-FpPart -Name routes -Part { Write-FpRoutes }
    $null = Invoke-FpPart -Name roles -Part { Write-FpRoles }
    Write-FpSettingFindings
    $services = [ordered]@{}
    $services.failed_known = Invoke-FpPart -Name services -Part { Write-FpServices -Record $services }
    if ((Test-FpParam 'units') -and $services.running) {
        $null = Invoke-FpPart -Name runs -Part { Write-FpServiceRuns -Names $services.running }
    }
    $services.listening_known = Invoke-FpPart -Name ports -Part { Write-FpListeners }
    Write-FpRecord -Kind services -Fields $services
}
