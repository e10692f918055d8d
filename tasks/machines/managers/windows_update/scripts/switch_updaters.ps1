# Switches Automatic Updates on or off for good, by the policy that Microsoft documents. A domain's policies come back
# with the next refresh of group policies: an assessment sees that. Safe to repeat.
# Parameters: values (list of NAME=NUMBER below the policy's key AU); lock_run, lock_attempt, lock_until (who sent it).
# Records: switched (step), failed (step, why), refused (why).
# Step: order
# Changes: whether the system's own updaters run, and their configuration file
# Requires: locked_order

$key = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU'
$names = 'NoAutoUpdate', 'AUOptions', 'ScheduledInstallDay', 'ScheduledInstallTime'

function Set-FpPolicyNumber {
    param([string] $Name, [string] $Value)
    $step = "set $Name = $Value"
    try {
        if (-not (Test-Path -LiteralPath $key)) { $null = New-Item -Path $key -Force }
        $set = @{ Name = $Name; Value = [int] $Value; PropertyType = 'DWord'; Force = $true }
        $null = New-ItemProperty -LiteralPath $key @set
        Write-FpRecord 'switched' ([ordered]@{ step = $step })
    } catch {
        Write-FpRecord 'failed' ([ordered]@{ step = $step; why = (Get-FpErrorMessage $_) })
    }
}

Invoke-FpOrder -Order {
    Invoke-FpUnderLock {
        foreach ($entry in @(Get-FpListParam 'values')) {
            $name, $value = "$entry".Split('=')
            if ($names -contains $name) { Set-FpPolicyNumber -Name $name -Value $value }
        }
    }
}
