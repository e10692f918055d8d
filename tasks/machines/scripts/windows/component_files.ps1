# Functions for the files of components, each in the folder of its component by its digest. Only SYSTEM and the
# administrators may write there, as in all folders of fleetpatch.

function Get-FpDigest {
    param([Parameter(Mandatory = $true, Position = 0)][string] $Path)
    return (Get-FileHash -LiteralPath $Path -Algorithm SHA256).Hash.ToLowerInvariant()
}

function Test-FpComponentFile {
    # Whether a file is there, and has its digest.
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Path,
        [Parameter(Mandatory = $true, Position = 1)][string] $Digest
    )
    return ([System.IO.File]::Exists($Path) -and (Get-FpDigest $Path) -ceq $Digest)
}

function Get-FpComponentFolder {
    # The folder of a component. It is made in the folder of fleetpatch, whose rights it has.
    param([Parameter(Mandatory = $true, Position = 0)][string] $Name)
    if ($Name -notmatch '\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\z') { throw "no name of a component: $Name" }
    $folder = Get-FpRoot
    foreach ($part in 'components', $Name) {
        $folder = Join-Path -Path $folder -ChildPath $part
        if (-not [System.IO.Directory]::Exists($folder)) { $null = [System.IO.Directory]::CreateDirectory($folder) }
        $attributes = [System.IO.File]::GetAttributes($folder)
        if ($attributes -band [System.IO.FileAttributes]::ReparsePoint) { throw "$folder is a link" }
    }
    return $folder
}
