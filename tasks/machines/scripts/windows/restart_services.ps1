# A detached job that restarts services that run replaced files. Windows replaces no file that is in use: it does so at
# the next boot, so it has no such services. This leaves each one, and says so.
# Parameters: units (list).
# Records: restart_left (unit, at, why), finished (at).
# Step: validate
# Changes: it restarts services that use replaced files

foreach ($unit in @(Get-FpListParam -Name units)) {
    $why = 'Windows replaces files in use only at a reboot'
    Write-FpRecord -Kind restart_left -Fields ([ordered]@{ unit = $unit; at = Get-FpNow; why = $why; detail = '' })
}
Write-FpRecord -Kind finished -Fields @{ at = Get-FpNow }
