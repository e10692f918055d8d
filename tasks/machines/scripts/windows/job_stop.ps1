# Asks a job to stop between two transactions, never inside one. A job whose start is still delayed here begins
# nothing then. Parameter: id. Record: job; asked says whether the job will find the request.
# Step: install
# Changes: a note for the job: it begins no other transaction
# Requires: job_common

$id = Get-FpParam -Name id
$folder = Get-FpJobFolder -Id $id
$job = Get-FpJob -Folder $folder
$asked = $false
$isWritten = Test-Path -LiteralPath (Join-Path -Path $folder -ChildPath 'params.json')
$isDelayed = $job.Phase -eq 'absent' -and -not $job.Withdrawn -and $isWritten
if ($job.Phase -eq 'running' -or $isDelayed) { $asked = Request-FpStop -Folder $folder -By '' }
Write-FpJob -Id $id -Job $job -More @{ asked = $asked }
