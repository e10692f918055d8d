# Asks the Windows Update Agent which updates are pending, and the system what an assessment needs. Changes nothing.
# Parameters: refresh ("yes": ask the update server; else the agent answers with what its last such search has stored).
# Records: search, search_warning, update (also updates that wait for a reboot), history, and those of wua_facts;
# removal, if an offered update was installed before.
# If "search" or "history_error" has denied = true, a login over the network may not ask here: the same script as a job
# may.
# Step: assess
# Changes: nothing but what Windows keeps of a search for updates
# Requires: wua_agent, wua_facts

$isWorking = Test-FpWorkerBusy # before the search, which makes TiWorker work
Write-FpSystem
Write-FpPolicy
Write-FpSearched
Write-FpRunningUpdate
$offered = @(Find-FpUpdates -Criteria 'IsInstalled=0' -Online (Test-FpParam 'refresh'))
foreach ($update in $offered) { Write-FpUpdate $update }
Write-FpHistory
$again = @($offered | Where-Object -FilterScript { $FpInstalledBefore.ContainsKey([string]$_.Identity.UpdateID) })
if ($again.Count -gt 0) { Write-FpRemovals }
Write-FpAgents
Write-FpProducts
Write-FpReboot
Write-FpHotpatch
Write-FpBusy -Worker $isWorking # last: what has begun meanwhile
