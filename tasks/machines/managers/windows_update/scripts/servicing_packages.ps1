# Finds the packages of the component store that belong to articles (KB numbers), by the module Dism. Changes nothing.

function Find-FpPackages {
    # Hashtables with Kb, Name and State. A package of one article has it in its name. A cumulative update is
    # Package_for_RollupFix, whatever its article is: what it says of itself names that.
    param([Parameter(Mandatory = $true, Position = 0)][string[]] $Kbs)
    foreach ($package in @(Get-WindowsPackage -Online -ErrorAction Stop)) {
        $name = [string]$package.PackageName
        if ($name -notlike 'Package_for_*') { continue }
        $about = $name
        if ($name -notmatch '\APackage_for_KB[0-9]') {
            $detail = Get-WindowsPackage -Online -PackageName $name -ErrorAction Stop
            $about = "$($detail.Description) $($detail.SupportInformation)"
        }
        foreach ($kb in $Kbs) {
            $number = $kb -replace '\AKB', ''
            if ($about -notmatch "(\A|[^0-9])$number([^0-9]|\z)") { continue }
            @{ Kb = $kb; Name = $name; State = [string]$package.PackageState }
        }
    }
}
