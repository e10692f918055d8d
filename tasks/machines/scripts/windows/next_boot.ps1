# Reports whether the next boot asks a person: how BitLocker protects the drive of Windows. Numbers are those of WMI's
# Win32_EncryptableVolume. Records: bitlocker (drive; protection: null if it could not be read, with code and why;
# protectors: their types; service: whether its service is there), and at the end survey, as of next_boot.sh.
# Step: precheck
# Changes: nothing

$drive = if ($env:SystemDrive) { $env:SystemDrive } else { 'C:' }
$record = [ordered]@{ drive = $drive; protection = $null; protectors = @(); code = 0; why = 'the drive is not listed' }
$record.service = $null -ne (Get-Service -Name BDESVC -ErrorAction SilentlyContinue)
try {
    $question = @{ Namespace = 'root\cimv2\Security\MicrosoftVolumeEncryption'; ClassName = 'Win32_EncryptableVolume' }
    $volumes = Get-CimInstance @question -Filter "DriveLetter='$drive'" -OperationTimeoutSec 20 -ErrorAction Stop
    foreach ($volume in $volumes) {
        if ($volume.ProtectionStatus -ne 0) {
            $question = @{ InputObject = $volume; OperationTimeoutSec = 20; ErrorAction = 'Stop' }
            $all = Invoke-CimMethod @question -MethodName GetKeyProtectors -Arguments @{ KeyProtectorType = [uint32] 0 }
            foreach ($id in $all.VolumeKeyProtectorID) {
                $answer = Invoke-CimMethod @question -MethodName GetKeyProtectorType -Arguments @{
                    VolumeKeyProtectorID = $id
                }
                $record.protectors += [int] $answer.KeyProtectorType
            }
        }
        $record.protection = [int] $volume.ProtectionStatus
        $record.why = ''
    }
} catch {
    $record.code = Get-FpHResult $_
    $record.why = Get-FpErrorMessage $_
}
Write-FpRecord -Kind bitlocker -Fields $record
Write-FpRecord -Kind survey -Fields ([ordered]@{ ignores_devices = $false; fstab_is_proven = $true })
