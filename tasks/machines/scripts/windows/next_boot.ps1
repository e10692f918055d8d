# Reports whether the next boot asks a person: how BitLocker protects the drive of Windows, if this Windows has it.
# Records, as of next_boot.sh: crypt (name; key: bitlocker; options: ProtectionStatus of Win32_EncryptableVolume, or why
# it could not be read; tokens: the types of the protectors, as numbers; needed), and at the end survey.
# Step: precheck
# Changes: nothing

if (Get-Service -Name BDESVC -ErrorAction SilentlyContinue) {
    $drive = if ($env:SystemDrive) { $env:SystemDrive } else { 'C:' }
    $state = 'the drive is not listed'
    $kinds = @()
    $space = @{ Namespace = 'root\cimv2\Security\MicrosoftVolumeEncryption'; ClassName = 'Win32_EncryptableVolume' }
    $limits = @{ OperationTimeoutSec = 20; ErrorAction = 'Stop' }
    try {
        foreach ($volume in @(Get-CimInstance @space @limits -Filter "DriveLetter='$drive'")) {
            $all = @{ KeyProtectorType = [uint32] 0 }
            $found = Invoke-CimMethod -InputObject $volume -MethodName GetKeyProtectors -Arguments $all @limits
            foreach ($id in $found.VolumeKeyProtectorID) {
                $one = @{ VolumeKeyProtectorID = $id }
                $kind = Invoke-CimMethod -InputObject $volume -MethodName GetKeyProtectorType -Arguments $one @limits
                $kinds += $kind.KeyProtectorType
            }
            $state = "$($volume.ProtectionStatus)"
        }
    } catch {
        $state = Get-FpErrorMessage $_
    }
    Write-FpRecord -Kind crypt -Fields ([ordered]@{
            name = $drive; key = 'bitlocker'; options = $state; tokens = $kinds -join ' '; needed = $true
        })
}
Write-FpRecord -Kind survey -Fields ([ordered]@{ ignores_devices = $false; fstab_is_proven = $true })
