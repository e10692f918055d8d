# Asks the Windows Update Agent which of some updates are installed. Changes nothing; needs no server.
# Parameters: ids (list of update ids). Records: search, update and history of these updates only.
# Step: validate
# Changes: nothing
# Requires: wua_agent

$wanted = @(Get-FpListParam 'ids')
foreach ($criteria in @('IsInstalled=1', 'IsInstalled=0')) {
    foreach ($update in @(Find-FpUpdates -Criteria $criteria)) {
        if ($wanted -contains ([string]$update.Identity.UpdateID).ToLowerInvariant()) { Write-FpUpdate $update }
    }
}
Write-FpHistory -Ids $wanted
