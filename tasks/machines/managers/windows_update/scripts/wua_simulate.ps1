# Asks the Windows Update Agent for what it offers of some updates now. Nothing is simulated: each update is complete in
# itself. Changes nothing; needs no server.
# Parameters: ids (list of update ids). Records: search, and update for those that are still offered.
# Step: assess
# Changes: nothing
# Requires: wua_agent

$wanted = @(Get-FpListParam 'ids')
foreach ($update in @(Find-FpUpdates -Criteria 'IsInstalled=0')) {
    if ($wanted -contains ([string]$update.Identity.UpdateID).ToLowerInvariant()) { Write-FpUpdate $update }
}
