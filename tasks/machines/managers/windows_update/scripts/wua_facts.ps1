# Functions that write what an assessment needs beside the updates: records "system", "policy", "agents", "service",
# "products", "searched", "running_update", "busy", "reboot" and "hotpatch". They read the registry, services and
# processes.
# Requires: registry_values, services, servicing, wua_agent

$FpCurrentVersion = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion'
$FpPolicies = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate'

function Test-FpServiceRuns {
    param([Parameter(Mandatory = $true, Position = 0)][string] $Name)
    $found = Get-Service -Name $Name -ErrorAction SilentlyContinue
    return ($null -ne $found -and [string]$found.Status -eq 'Running')
}

function Write-FpSystem {
    $version = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    $ubr = Get-FpRegistryNumber $version 'UBR'
    $booted = $null
    try {
        $booted = (Get-CimInstance -ClassName 'Win32_OperatingSystem').LastBootUpTime
    } catch {
        Write-Verbose -Message "no time of the boot: $_"
    }
    Write-FpRecord 'system' ([ordered]@{
            at = (Get-FpNow)
            offset_minutes = [int][System.TimeZoneInfo]::Local.GetUtcOffset([datetime]::UtcNow).TotalMinutes
            uptime = (Get-FpUptime)
            boot_time = (ConvertTo-FpEpoch $booted)
            build = [string](Get-FpRegistryValue $version 'CurrentBuild')
            ubr = $ubr
            edition = [string](Get-FpRegistryValue $version 'EditionID')
            installation_type = [string](Get-FpRegistryValue $version 'InstallationType')
        })
}

# What decides between WSUS and Windows Update, for each class of updates.
$FpScanSources = @('DisableDualScan')
foreach ($class in @('Quality', 'Feature', 'Driver', 'Other')) {
    $FpScanSources += "SetPolicyDrivenUpdateSourceFor${class}Updates"
}

# Where somebody may hold updates back, or let Windows restart: keys, the prefix of their values' names in the record,
# and the names.
$FpUpdatePlaces = @(
    @{ Path = $FpPolicies; Prefix = ''; Names = $FpScanSources + @(
            'WUServer', 'WUStatusServer', 'TargetGroup', 'DoNotConnectToWindowsUpdateInternetLocations'
            'DisableWindowsUpdateAccess'
            'PauseQualityUpdates', 'PauseQualityUpdatesStartTime', 'DeferQualityUpdates'
            'DeferQualityUpdatesPeriodInDays', 'TargetReleaseVersionInfo'
            'SetComplianceDeadline', 'SetComplianceDeadlineForQU', 'ConfigureDeadlineForQualityUpdates'
            'SetAutoRestartDeadline', 'AutoRestartDeadlinePeriodInDays', 'SetEngagedRestartTransitionSchedule'
            'EngagedRestartDeadline'
        )
    }
    @{ Path = "$FpPolicies\AU"; Prefix = ''; Names = @(
            'UseWUServer', 'NoAutoUpdate', 'AUOptions', 'ScheduledInstallDay', 'ScheduledInstallTime'
            'UseUpdateClassPolicySource'
            'AlwaysAutoRebootAtScheduledTime', 'NoAutoRebootWithLoggedOnUsers'
        )
    }
    @{ Path = 'HKLM:\SOFTWARE\Microsoft\PolicyManager\current\device\Update'; Prefix = 'mdm:'
        Names = $FpScanSources + @(
            'AllowUpdateService', 'PauseQualityUpdates', 'PauseQualityUpdatesStartTime'
            'DeferQualityUpdatesPeriodInDays', 'TargetReleaseVersion', 'AllowAutoUpdate', 'UpdateServiceUrl'
            'ConfigureDeadlineForQualityUpdates', 'AutoRestartDeadlinePeriodInDays', 'EngagedRestartDeadline'
        )
    }
    # what a person has set on the machine itself
    @{ Path = 'HKLM:\SOFTWARE\Microsoft\WindowsUpdate\UX\Settings'; Prefix = 'settings:'; Names = @(
            'PauseQualityUpdatesStartTime', 'PauseQualityUpdatesEndTime', 'PauseUpdatesExpiryTime'
            'DeferQualityUpdatesPeriodInDays'
        )
    }
    @{ Path = 'HKLM:\SOFTWARE\Microsoft\WindowsUpdate\UpdatePolicy\Settings'; Prefix = 'state:'; Names = @(
            'PausedQualityStatus'
        )
    }
    @{ Path = "$FpCurrentVersion\WindowsUpdate\Auto Update"; Prefix = 'Local'; Names = @('AUOptions') }
)

function Write-FpPolicy {
    # The record "policy": values (texts, by prefix and name), and unread (keys that could not be read).
    $values = [ordered]@{}
    $unread = @()
    foreach ($place in $FpUpdatePlaces) {
        try {
            if (-not (Test-Path -LiteralPath $place.Path -ErrorAction Stop)) { continue }
            $key = Get-Item -LiteralPath $place.Path -ErrorAction Stop
            foreach ($name in $place.Names) {
                $value = $key.GetValue($name, $null)
                if ($null -ne $value -and "$value" -ne '') { $values[$place.Prefix + $name] = [string]$value }
            }
        } catch {
            $unread += $place.Path
        }
    }
    Write-FpRecord 'policy' ([ordered]@{ values = $values; unread = $unread })
}

function Write-FpSearched {
    # The record "searched": when Automatic Updates last searched with success; null if never, or if that is not known.
    # A search by a script does not count there.
    $at = $null
    try {
        $at = ConvertTo-FpEpoch (New-Object -ComObject 'Microsoft.Update.AutoUpdate').Results.LastSearchSuccessDate
    } catch {
        Write-Verbose -Message "Automatic Updates: $_"
    }
    Write-FpRecord 'searched' @{ at = $at }
}

function Write-FpRunningUpdate {
    # The record "running_update": when the cumulative update was installed whose build runs. None if it is not known.
    $version = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    $packages = "$FpCurrentVersion\Component Based Servicing\Packages"
    # the revision alone: versions that share their files have the package of the first, as 19041 on 19045
    $pattern = '\APackage_for_RollupFix~.*~\d+\.{0}\.' -f (Get-FpRegistryNumber $version 'UBR')
    try {
        $names = @(@((Get-Item -LiteralPath $packages -ErrorAction Stop).GetSubKeyNames()) -match $pattern)
        if ($names.Count -eq 0) { return }
        $high, $low = foreach ($half in 'High', 'Low') { # of a FILETIME
            [int64](Get-FpRegistryNumber "$packages\$($names[0])" "InstallTime$half") -band 4294967295
        }
        $at = ConvertTo-FpEpoch ([datetime]::FromFileTimeUtc(($high -shl 32) + $low))
        Write-FpRecord 'running_update' @{ at = $at }
    } catch {
        Write-Verbose -Message "${packages}: $_"
    }
}

function Write-FpAgents {
    $managed = $false
    $policies = 'HKLM:\SOFTWARE\Microsoft\PolicyManager\current\device\Update'
    $enrollments = 'HKLM:\SOFTWARE\Microsoft\Enrollments'
    if (Test-Path -LiteralPath $enrollments) {
        foreach ($key in @(Get-ChildItem -LiteralPath $enrollments)) {
            if ([string]$key.GetValue('ProviderID', '') -eq 'MS DM Server') { $managed = $true }
        }
    }
    $azure = $false
    $system = Split-Path -Parent -Path $env:SystemRoot
    $extensions = Join-Path -Path (Join-Path -Path $system -ChildPath 'Packages') -ChildPath 'Plugins'
    $names = @(
        'Microsoft.SoftwareUpdateManagement.WindowsOsUpdateExtension'
        'Microsoft.CPlat.Core.WindowsPatchExtension'
    )
    foreach ($name in $names) {
        if (Test-Path -LiteralPath (Join-Path -Path $extensions -ChildPath $name)) { $azure = $true }
    }
    # there Patch Manager keeps what it has installed
    $patched = Join-Path -Path $env:ProgramData -ChildPath 'Amazon'
    foreach ($name in @('PatchBaselineOperations', 'State', 'PatchStatesConfiguration.json')) {
        $patched = Join-Path -Path $patched -ChildPath $name
    }
    Write-FpRecord 'agents' ([ordered]@{
            config_manager = (Test-FpServiceRuns 'ccmexec')
            co_management = (Get-FpRegistryNumber 'HKLM:\SOFTWARE\Microsoft\CCM' 'CoManagementFlags')
            mdm = $managed
            mdm_updates = ($managed -and (Test-Path -LiteralPath $policies))
            azure_updates = $azure
            aws = (Test-FpServiceRuns 'AmazonSSMAgent')
            aws_patches = (Test-Path -LiteralPath $patched)
        })
    foreach ($name in @('wuauserv', 'bits', 'cryptsvc', 'TrustedInstaller', 'msiserver')) {
        $found = Get-Service -Name $name -ErrorAction SilentlyContinue
        if ($null -eq $found) { continue }
        # not StartType, which .NET before 4.6.1 lacks
        $start = Get-FpRegistryNumber "HKLM:\SYSTEM\CurrentControlSet\Services\$name" 'Start'
        $words = @{ 2 = 'Automatic'; 3 = 'Manual'; 4 = 'Disabled' }
        $fields = [ordered]@{ name = $name; status = [string]$found.Status; start = '' }
        if ($null -ne $start) { $fields.start = [string]$words[[int]$start] }
        Write-FpRecord 'service' $fields
    }
}

function Write-FpProducts {
    # The record "products", if there are products whose updates come only from Microsoft Update or WSUS: the names of
    # their services, and whether Microsoft Update is switched on; null if that can't be read.
    $services = @(Get-FpSqlServer) + @(Get-Service -Name 'MSExchangeServiceHos[t]', 'SPTimerV[4]')
    $found = @($services | ForEach-Object -Process { [string]$_.Name })
    if ($found.Count -eq 0) { return }
    $record = [ordered]@{ services = $found; microsoft_update = $null }
    try {
        $manager = New-Object -ComObject 'Microsoft.Update.ServiceManager'
        $record.microsoft_update = $false
        foreach ($service in @(Get-FpItems $manager.Services)) {
            if ($service.ServiceID -eq '7971f918-a847-4430-9279-4a52d1efe18d' -and $service.IsRegisteredWithAU) {
                $record.microsoft_update = $true
            }
        }
    } catch {
        Write-Verbose -Message "update services: $_"
        $record.microsoft_update = $null
    }
    Write-FpRecord 'products' $record
}

function Write-FpRemovals {
    # Records "removal" {kb, at} of updates that somebody removed: those that wua_undo has noted, and those that the
    # Setup log tells. Servicing took their packages from Installed (5112) to Absent (5000); an undone boot does not.
    $notes = 'HKLM:\SOFTWARE\FleetPatch\Removed'
    if (Test-Path -LiteralPath $notes) {
        $key = Get-Item -LiteralPath $notes
        foreach ($name in $key.GetValueNames()) {
            Write-FpRecord 'removal' ([ordered]@{ kb = $name; at = ($key.GetValue($name) -as [int64]) })
        }
    }
    $filter = @{ LogName = 'Setup'; ProviderName = 'Microsoft-Windows-Servicing'; Id = 1 }
    try {
        foreach ($entry in @(Get-WinEvent -FilterHashtable $filter -MaxEvents 500 -ErrorAction Stop)) {
            $told = @{}
            foreach ($value in ([xml]$entry.ToXml()).SelectNodes("//*[local-name()='UserData']/*/*")) {
                $told[[string]$value.LocalName] = [string]$value.InnerText
            }
            if ($told['InitialPackageState'] -ne '5112' -or $told['IntendedPackageState'] -ne '5000') { continue }
            Write-FpRecord 'removal' ([ordered]@{
                    kb = [string]$told['PackageIdentifier']; at = (ConvertTo-FpEpoch $entry.TimeCreated)
                })
        }
    } catch {
        Write-Verbose -Message "Setup log: $_" # also where it has no such event
    }
}

function Write-FpBusy {
    param([bool] $Worker) # whether TiWorker was at work before the search
    Write-FpRecord 'busy' ([ordered]@{
            servicing = (Get-FpServicingState); worker = $Worker; installer = (Test-FpInstallerBusy)
        })
}

function Get-FpConfigManagerReboot {
    # Whether ConfigMgr's client asks for a reboot (null without one), and enforces it. Both null: it does not answer.
    if (-not (Test-FpServiceRuns 'ccmexec')) { return $null, $false }
    try {
        $client = @{ Namespace = 'root\ccm\ClientSDK'; ClassName = 'CCM_ClientUtilities' }
        $answer = Invoke-CimMethod @client -MethodName 'DetermineIfRebootPending'
        if ($answer.ReturnValue) { throw "code $($answer.ReturnValue)" }
        return ([bool]$answer.RebootPending -or [bool]$answer.IsHardRebootPending), [bool]$answer.IsHardRebootPending
    } catch {
        Write-Verbose -Message "ConfigMgr: $_"
        return $null, $null
    }
}

function Write-FpReboot {
    $record = [ordered]@{ known = $true }
    try {
        $agent = "$FpCurrentVersion\WindowsUpdate"
        $servicing = "$FpCurrentVersion\Component Based Servicing"
        $control = 'HKLM:\SYSTEM\CurrentControlSet\Control'
        $record.update_agent = [bool](Test-Path -LiteralPath "$agent\Auto Update\RebootRequired")
        $record.servicing = [bool](Test-Path -LiteralPath "$servicing\RebootPending")
        $record.servicing_continues = [bool](Test-Path -LiteralPath "$servicing\RebootInProgress")
        $record.config_manager, $record.config_manager_restarts = Get-FpConfigManagerReboot
        $active = [string](Get-FpRegistryValue "$control\ComputerName\ActiveComputerName" 'ComputerName')
        $coming = [string](Get-FpRegistryValue "$control\ComputerName\ComputerName" 'ComputerName')
        $record.renamed = ($active -ne '' -and $coming -ne '' -and $active -ne $coming)
        $logon = 'HKLM:\SYSTEM\CurrentControlSet\Services\Netlogon'
        $record.joining = (Test-Path -LiteralPath "$logon\JoinDomain") -or (Test-Path -LiteralPath "$logon\AvoidSpnSet")
        $renames = 0
        foreach ($name in @('PendingFileRenameOperations', 'PendingFileRenameOperations2')) {
            # pairs of a file and its new name, which is empty for a removal
            foreach ($path in @(Get-FpRegistryValue "$control\Session Manager" $name)) {
                if ([string]$path -like '\??\*') { $renames++ }
            }
        }
        $record.file_renames = $renames
        $marks = @()
        if (Test-Path -LiteralPath "$servicing\PackagesPending") { $marks += 'PackagesPending' }
        if (Test-Path -LiteralPath "$agent\Auto Update\PostRebootReporting") { $marks += 'PostRebootReporting' }
        $signal = Get-FpRegistryValue "$FpCurrentVersion\RunOnce" 'DVDRebootSignal'
        if ($null -ne $signal) { $marks += 'DVDRebootSignal' }
        $volatile = Get-FpRegistryNumber 'HKLM:\SOFTWARE\Microsoft\Updates' 'UpdateExeVolatile'
        if ([int64]$volatile -ne 0) { $marks += 'UpdateExeVolatile' }
        $attempts = 'HKLM:\SOFTWARE\Microsoft\ServerManager\CurrentRebootAttempts'
        if (Test-Path -LiteralPath $attempts) { $marks += 'CurrentRebootAttempts' }
        $record.marks = $marks
    } catch {
        $record.known = $false
        Write-Verbose -Message "$_"
    }
    Write-FpRecord 'reboot' $record
}

function Write-FpHotpatch {
    $control = 'HKLM:\SYSTEM\CurrentControlSet\Control'
    $guard = "$control\DeviceGuard"
    $targeting = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Update\TargetingInfo'
    $package = "$targeting\DynamicInstalled\Hotpatch.amd64"
    $licences = 'HKLM:\SOFTWARE\Microsoft\Azure Connected Machine Agent\Windows\Licenses'
    $status = $null
    try {
        $found = Get-CimInstance -Namespace 'root\Microsoft\Windows\DeviceGuard' -ClassName 'Win32_DeviceGuard'
        $status = [int]$found.VirtualizationBasedSecurityStatus
    } catch {
        Write-Verbose -Message "$_" # older systems lack that class
    }
    Write-FpRecord 'hotpatch' ([ordered]@{
            enrolled = [string](Get-FpRegistryValue $package 'Name')
            vbs_configured = (Get-FpRegistryNumber $guard 'EnableVirtualizationBasedSecurity')
            vbs_status = $status
            secure_boot = (Get-FpRegistryNumber "$control\SecureBoot\State" 'UEFISecureBootEnabled')
            table_size = (Get-FpRegistryNumber "$control\Session Manager\Memory Management" 'HotPatchTableSize')
            licence = (Get-FpRegistryNumber "$licences\Features\Hotpatch" 'Subscription')
            arc = (Test-FpServiceRuns 'himds')
        })
}
