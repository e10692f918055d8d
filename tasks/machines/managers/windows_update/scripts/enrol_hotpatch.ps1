# Sets the registry values that Microsoft documents for hotpatches of "Datacenter: Azure Edition". It sets nothing that
# stands for a licence: those of Azure Arc's agent are its own. Safe to repeat.
# Parameters: values (list of: vbs, table_size, package); lock_run, lock_attempt, lock_until (who sent this).
# Records: set (value, was, now), kept (value), failed (value, why), refused (why).
# Step: order
# Changes: registry values for hotpatches
# Requires: locked_order, registry_values

$control = 'HKLM:\SYSTEM\CurrentControlSet\Control'
$targeting = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Update\TargetingInfo'
$package = "$targeting\DynamicInstalled\Hotpatch.amd64"
$known = @{
    vbs = @(, @("$control\DeviceGuard", 'EnableVirtualizationBasedSecurity', 1, 'DWord'))
    table_size = @(, @("$control\Session Manager\Memory Management", 'HotPatchTableSize', 0x1000, 'DWord'))
    package = @(
        @($package, 'Name', 'Hotpatch Enrollment Package', 'String'),
        @($package, 'Version', '10.0.20348.1129', 'String')
    )
}

function Set-FpEnrolmentValue {
    param([string] $Path, [string] $Name, [object] $Value, [string] $Type)
    $was = Get-FpRegistryValue $Path $Name
    if ([string]$was -ceq [string]$Value) {
        Write-FpRecord 'kept' ([ordered]@{ value = $Name })
        return
    }
    try {
        if (-not (Test-Path -LiteralPath $Path)) { $null = New-Item -Path $Path -Force }
        $null = New-ItemProperty -LiteralPath $Path -Name $Name -Value $Value -PropertyType $Type -Force
        Write-FpRecord 'set' ([ordered]@{ value = $Name; was = [string]$was; now = [string]$Value })
    } catch {
        Write-FpRecord 'failed' ([ordered]@{ value = $Name; why = (Get-FpErrorMessage $_) })
    }
}

Invoke-FpOrder -Order {
    Invoke-FpUnderLock {
        foreach ($group in @(Get-FpListParam 'values')) {
            foreach ($entry in $known[$group]) {
                Set-FpEnrolmentValue -Path $entry[0] -Name $entry[1] -Value $entry[2] -Type $entry[3]
            }
        }
    }
}
