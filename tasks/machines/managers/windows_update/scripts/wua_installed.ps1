# Asks the Windows Update Agent which of some updates are installed. Changes nothing; needs no server.
# Parameters: ids (list of update ids); months ("yes": instead, the installed updates whose titles begin with a month).
# Records: search, update and history of these updates only.
# Step: validate
# Changes: nothing
# Requires: wua_agent

$wanted = @(Get-FpListParam 'ids')
foreach ($criteria in @('IsInstalled=1', 'IsInstalled=0')) {
    foreach ($update in @(Find-FpUpdates -Criteria $criteria)) {
        $isOfMonth = (Test-FpParam 'months') -and $update.IsInstalled -and [string]$update.Title -match '\A\s*20\d\d-'
        $id = ([string]$update.Identity.UpdateID).ToLowerInvariant()
        if ($isOfMonth -or $wanted -contains $id) { Write-FpUpdate $update }
    }
}
if ($wanted.Count -gt 0) { Write-FpHistory -Ids $wanted }
