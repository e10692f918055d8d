# Reports what prevents a reboot of this machine now. Changes nothing. It needs none of its parameters (locks).
# Records: boot (boot_id), obstacle (about, why: as in reboot.ps1) if there is one, given_up (about, why) if the last
# order in this boot was accepted, and then somebody has aborted it. An order that is being executed is no obstacle.
# Step: precheck
# Changes: nothing
# Requires: job_common, servicing

$boot = Get-FpBootId
Write-FpRecord -Kind boot -Fields @{ boot_id = $boot }
$note = Read-FpRebootNote -BootId $boot
$abort = Find-FpAbort -Note $note
if ($null -ne $abort) {
    Write-FpRecord -Kind given_up -Fields ([ordered]@{ about = $abort.About; why = $abort.Why })
}
$obstacle = Find-FpObstacle -Note $note -Run (Get-FpLock).Run
if ($null -ne $obstacle) {
    Write-FpRecord -Kind obstacle -Fields ([ordered]@{ about = $obstacle.About; why = $obstacle.Why })
}
