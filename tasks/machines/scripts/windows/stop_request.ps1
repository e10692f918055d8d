# A function for job scripts: for which run a job is to stop.

function Get-FpStopReason { # the run, with who started it; '' for a person's request, and without a request
    if (-not $FpJobDirectory) { return '' }
    try {
        [System.IO.File]::ReadAllText((Join-Path -Path $FpJobDirectory -ChildPath 'stop')).Trim()
    } catch {
        ''
    }
}
