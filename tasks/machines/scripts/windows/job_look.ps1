# Reads the state of a job. Parameters: id, events_from, log_from, events_limit, log_limit (bytes). Records: job, then
# sections events and log.
# The phase is read first: the file of a finished job has all its events.
# Step: install
# Changes: nothing
# Requires: job_folder
# Prelude: answers

function Read-FpPiece { # bytes of a file
    param([string] $Path, [long] $From, [int] $Limit)
    $share = [System.IO.FileShare] 'ReadWrite, Delete'
    try {
        $stream = [System.IO.File]::Open($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, $share)
    } catch [System.IO.FileNotFoundException] {
        return , [byte[]]::new(0)
    }
    try {
        $size = [int] [System.Math]::Max(0, [System.Math]::Min($Limit, $stream.Length - $From))
        $bytes = [byte[]]::new($size)
        $null = $stream.Seek($From, [System.IO.SeekOrigin]::Begin)
        $read = 0
        while ($read -lt $size) {
            $more = $stream.Read($bytes, $read, $size - $read)
            if ($more -le 0) { break }
            $read += $more
        }
        if ($read -lt $size) { [System.Array]::Resize([ref] $bytes, $read) }
        return , $bytes
    } finally {
        $stream.Dispose()
    }
}

$id = Get-FpParam -Name id
$folder = Get-FpJobFolder -Id $id
$job = Get-FpJob -Folder $folder
Write-FpJob -Id $id -Job $job
if ($job.Phase -ne 'absent') {
    foreach ($name in 'events', 'log') {
        $from = ConvertTo-FpNumber (Get-FpParam -Name "${name}_from")
        $limit = ConvertTo-FpNumber (Get-FpParam -Name "${name}_limit")
        $path = Join-Path -Path $folder -ChildPath $name
        Write-FpSection -Name $name -Bytes (Read-FpPiece -Path $path -From $from -Limit $limit)
    }
}
