# Takes a part of a component's file from the controller, and stores the file when it is whole and has its digest.
# Parameters: component, sha256, size (bytes of the whole file), offset (where the part begins), data (base64; empty:
# only tell what is there). Record: component_file {have, is_whole, why}.
# Step: install
# Changes: a file in the folder of components
# Requires: job_common, component_files

function Read-FpData {
    # The bytes of a part. The reader of XML decodes them: PowerShell logs a script with the word of [Convert] for it.
    $xml = New-Object -TypeName System.IO.StringReader -ArgumentList "<data>$(Get-FpParam -Name data)</data>"
    $reader = [System.Xml.XmlReader]::Create($xml)
    $null = $reader.MoveToContent()
    return , $reader.ReadElementContentAs([byte[]], $null)
}

function Save-FpPart {
    # Appends the part where it belongs. Returns what is there, whether the file is whole, and why it can't be stored.
    $digest = Get-FpParam -Name sha256
    $size = [int64](Get-FpParam -Name size)
    $file = Join-Path -Path (Get-FpComponentFolder (Get-FpParam -Name component)) -ChildPath $digest
    if (Test-FpComponentFile $file $digest) { return @{ Have = $size; IsWhole = $true; Why = '' } }
    $part = "$file.part"
    $bytes = Read-FpData
    $stream = [System.IO.File]::Open($part, 'OpenOrCreate', 'Write', 'None')
    try {
        if ($stream.Length -gt $size) { $stream.SetLength(0) }
        if ($bytes.Length -gt 0 -and $stream.Length -eq [int64](Get-FpParam -Name offset)) {
            $null = $stream.Seek(0, 'End')
            $stream.Write($bytes, 0, $bytes.Length)
        }
        $have = $stream.Length
    } finally {
        $stream.Dispose()
    }
    if ($have -ne $size) { return @{ Have = $have; IsWhole = $false; Why = '' } }
    if ((Get-FpDigest $part) -cne $digest) {
        [System.IO.File]::Delete($part)
        return @{ Have = 0; IsWhole = $false; Why = "the file that came has another digest than $digest" }
    }
    [System.IO.File]::Delete($file)
    [System.IO.File]::Move($part, $file)
    return @{ Have = $size; IsWhole = $true; Why = '' }
}

Invoke-FpOrder -Order {
    Initialize-FpJobs
    try {
        $saved = Save-FpPart
    } catch {
        $saved = @{ Have = 0; IsWhole = $false; Why = "$_" }
    }
    Write-FpRecord -Kind component_file -Fields ([ordered]@{
            have = $saved.Have; is_whole = $saved.IsWhole; why = $saved.Why
        })
}
