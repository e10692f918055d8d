# Switches Automatic Updates on or off for good, by the policy that Microsoft documents, or only looks at it. A domain's
# policies come back with the next refresh of group policies: an assessment sees that. Safe to repeat.
# Parameters: work (look or switch); values (list of NAME=NUMBER below the policy's key AU, only for switch; an empty
# number removes the value); lock_run, lock_attempt, lock_until (who sent this; only for switch).
# Records: policy (name, value: "none" if it has none), switched (step), failed (step, why), refused (why).
# Requires: job_common, registry_values

$key = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU'
$names = 'NoAutoUpdate', 'AUOptions', 'ScheduledInstallDay', 'ScheduledInstallTime'

function Read-FpPolicyNumber {
    param([string] $Name)
    $value = Get-FpRegistryValue $key $Name
    if ($null -eq $value) { 'none' } else { [string] $value }
}

function Set-FpPolicyNumber {
    param([string] $Name, [string] $Value)
    $step = if ($Value) { "set $Name = $Value" } else { "remove $Name" }
    try {
        if ($Value) {
            if (-not (Test-Path -LiteralPath $key)) { $null = New-Item -Path $key -Force }
            $set = @{ Name = $Name; Value = [int] $Value; PropertyType = 'DWord'; Force = $true }
            $null = New-ItemProperty -LiteralPath $key @set
        } elseif ((Read-FpPolicyNumber $Name) -ne 'none') {
            Remove-ItemProperty -LiteralPath $key -Name $Name
        }
        Write-FpRecord 'switched' ([ordered]@{ step = $step })
    } catch {
        Write-FpRecord 'failed' ([ordered]@{ step = $step; why = (Get-FpErrorMessage $_) })
    }
}

function Set-FpAllPolicyNumbers {
    Initialize-FpJobs
    $mutex = Enter-FpMutex
    try {
        $attempt = ConvertTo-FpNumber (Get-FpParam 'lock_attempt')
        $void = Test-FpLock -Run (Get-FpParam 'lock_run') -Attempt $attempt
        if ($void.Why) { Deny-FpOrder -Why $void.Why -About machine_lock }
        $until = ConvertTo-FpNumber (Get-FpParam 'lock_until')
        Save-FpHeldLock -Held $void.Held -Attempt $attempt -Until $until
        foreach ($entry in @(Get-FpListParam 'values')) {
            $name, $value = "$entry".Split('=')
            if ($names -contains $name) { Set-FpPolicyNumber -Name $name -Value $value }
        }
    } finally {
        $mutex.Dispose()
    }
}

Invoke-FpOrder -Order {
    switch (Get-FpParam 'work') {
        'look' {
            foreach ($name in $names) {
                Write-FpRecord 'policy' ([ordered]@{ name = $name; value = (Read-FpPolicyNumber $name) })
            }
        }
        'switch' { Set-FpAllPolicyNumbers }
        default { Deny-FpOrder -Why "not known: $_" }
    }
}
