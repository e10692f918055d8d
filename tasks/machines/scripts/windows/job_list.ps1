# Lists the jobs that the machine has, one record "job" each.
# Step: install
# Changes: nothing
# Requires: job_common

if (Test-Path -LiteralPath $FpJobs) {
    foreach ($folder in [System.IO.Directory]::GetDirectories($FpJobs)) {
        $job = Get-FpJob -Folder $folder
        if ($job.Phase -eq 'absent') { continue }
        Write-FpJob -Id (Split-Path -Leaf -Path $folder) -Job $job -More @{ label = Get-FpLabel -Folder $folder }
    }
}
