# Reports whether the next boot asks a person: how BitLocker protects the drive of Windows, if this Windows has it.
# Records, as of next_boot.sh: crypt (name; key: bitlocker, unlisted, or unread; options: ProtectionStatus of
# Win32_EncryptableVolume, or why it could not be read; tokens: the types of the protectors, as numbers, unless the
# status is 0; needed), and at the end survey.
# Step: precheck
# Changes: nothing

$drive = if ($env:SystemDrive) { $env:SystemDrive } else { 'C:' }
$key, $state, $kinds = 'unlisted', '', @()
$limits = @{ OperationTimeoutSec = 20; ErrorAction = 'Stop' }
$space = @{ Namespace = 'root\cimv2\Security\MicrosoftVolumeEncryption'; ClassName = 'Win32_EncryptableVolume' }
try {
    foreach ($volume in @(Get-CimInstance @space @limits -Filter "DriveLetter='$drive'")) {
        $key, $state = 'bitlocker', "$($volume.ProtectionStatus)"
        if ($state -eq '0') { continue }
        $limits.InputObject = $volume
        $found = Invoke-CimMethod @limits -MethodName GetKeyProtectors -Arguments @{ KeyProtectorType = [uint32] 0 }
        if ($found.ReturnValue -ne 0) { throw ('GetKeyProtectors: code 0x{0:X8}' -f $found.ReturnValue) }
        foreach ($id in $found.VolumeKeyProtectorID) {
            $limits.Arguments = @{ VolumeKeyProtectorID = $id }
            $kind = Invoke-CimMethod @limits -MethodName GetKeyProtectorType
            if ($kind.ReturnValue -ne 0) { throw ('GetKeyProtectorType: code 0x{0:X8}' -f $kind.ReturnValue) }
            $kinds += $kind.KeyProtectorType
        }
    }
} catch {
    # Neither its class or namespace, nor its service: BitLocker is not installed. With the service, WMI is damaged.
    $isMissing = $_.FullyQualifiedErrorId -match '^HRESULT 0x80041(00E|010),'
    $key, $state = 'unread', (Get-FpErrorMessage $_)
    if ($isMissing -and -not (Get-Service -Name BDESVC -ErrorAction SilentlyContinue)) { $key = '' }
}
if ($key) {
    Write-FpRecord -Kind crypt -Fields ([ordered]@{
            name = $drive; key = $key; options = $state; tokens = $kinds -join ' '; needed = $true
        })
}
Write-FpRecord -Kind survey -Fields ([ordered]@{ ignores_devices = $false; fstab_is_proven = $true })
