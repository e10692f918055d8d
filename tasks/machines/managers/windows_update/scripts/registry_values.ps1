# Functions that read the registry. A key or a value that is not there is null, as is one that can't be read.

function Get-FpRegistryValue {
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Path,
        [Parameter(Mandatory = $true, Position = 1)][string] $Name
    )
    try {
        if (-not (Test-Path -LiteralPath $Path)) { return $null }
        return (Get-Item -LiteralPath $Path).GetValue($Name, $null)
    } catch {
        Write-Verbose -Message "${Path}: $_"
        return $null
    }
}

function Get-FpRegistryNumber {
    # A DWORD, or null.
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Path,
        [Parameter(Mandatory = $true, Position = 1)][string] $Name
    )
    $value = Get-FpRegistryValue $Path $Name
    if ($value -is [int] -or $value -is [int64]) { return [int64]$value }
    return $null
}
