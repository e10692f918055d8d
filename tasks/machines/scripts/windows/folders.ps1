# Functions that make the folders of fleetpatch, and check who may write there. SYSTEM runs scripts from them. Another
# user who may write there could make SYSTEM run another script than the one that was sent.
# Requires: programs

$FpTrusted = 'SY', 'BA', 'S-1-5-18', 'S-1-5-32-544' # SYSTEM, and the group of the administrators
# TrustedInstaller belongs to Windows. CREATOR OWNER is the user who creates something there. Only trusted users can.
$FpHarmless = $FpTrusted + 'CO', 'S-1-3-0', 'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464'

function Test-FpReadOnlyRight { # whether the rights of an entry (in SDDL) allow no change
    param([string] $Rights)
    if ($Rights -match '^0x([0-9a-fA-F]{1,8})$') {
        # write and append, write attributes, delete, delete children, change the ACL or the owner, all, maximum
        return ([System.Convert]::ToInt64($Matches[1], 16) -band 0x520D0156) -eq 0
    }
    $Rights -cmatch '^(CC|SW|WP|LO|RC|FR|FX|GR|GX)*$'
}

# Returns why a folder with this security descriptor (SDDL) can't be used, or ''.
function Test-FpSddl {
    param([string] $Sddl)
    if ($Sddl -cnotmatch '^O:(?<owner>[A-Z]{2}|S-1-[0-9-]+)(?=[GDS]:)') { return 'its owner is unknown' }
    if ($FpTrusted -cnotcontains $Matches['owner']) { return 'belongs to another user' }
    $list = 'D:(?<flags>[A-Z_]*)(?<entries>(\([^()]*\))*)(S:.*)?$'
    if ($Sddl -cnotmatch $list -or $Matches['flags'] -cmatch 'NO_ACCESS') {
        return 'it has no list of who may write'
    }
    if (-not $Matches['entries']) { return 'nobody may read it' }
    foreach ($entry in $Matches['entries'].Trim('(', ')') -split '\)\(') {
        $kind, $null, $rights, $null, $null, $who = $entry -split ';'
        if ($kind -ceq 'D') { continue }
        if ($kind -cne 'A') { return "it has an entry of an unknown kind ($entry)" }
        if ($FpHarmless -ccontains $who -or (Test-FpReadOnlyRight -Rights $rights)) { continue }
        return "others may write into it ($who)"
    }
    ''
}

function Test-FpFolder { # why a folder can't be used, or ''
    param([string] $Path)
    $attributes = [System.IO.File]::GetAttributes($Path)
    if ($attributes -band [System.IO.FileAttributes]::ReparsePoint) { return "$Path is a link" }
    if (-not [System.IO.Directory]::Exists($Path)) { return "cannot write $Path`: it is no folder" }
    $fault = Test-FpSddl -Sddl (Get-Acl -LiteralPath $Path).Sddl
    switch -Wildcard ($fault) {
        '' { '' }
        'others *' { $fault.Replace('into it', "into $Path") }
        'belongs *' { "$Path $fault" }
        default { "${Path}: $fault" }
    }
}

function Protect-FpFolder { # only SYSTEM and the administrators, and nothing that a folder above says
    param([string] $Path)
    $owner = Invoke-FpProgram -Name icacls.exe -Arguments $Path, '/setowner', '*S-1-5-32-544', '/Q'
    $list = $Path, '/inheritance:r', '/grant:r', '*S-1-5-18:(OI)(CI)F', '*S-1-5-32-544:(OI)(CI)F', '/Q'
    $rights = Invoke-FpProgram -Name icacls.exe -Arguments $list
    foreach ($done in $owner, $rights) {
        if ($done.ExitCode -eq 0) { continue }
        $cause = "icacls.exe failed ($($done.ExitCode)): $($done.Output)"
        Deny-FpOrder -Why "cannot write ${Path}: $cause" -About room
    }
}

# Makes a folder, or checks one that is there. A folder of somebody else is refused, never taken over: it may have been
# filled before. One of ours whose making was interrupted is finished.
function Initialize-FpFolder {
    param([string] $Path)
    try {
        if (-not [System.IO.Directory]::Exists($Path) -and -not [System.IO.File]::Exists($Path)) {
            $null = [System.IO.Directory]::CreateDirectory($Path)
            Protect-FpFolder -Path $Path
        }
        $fault = Test-FpFolder -Path $Path
        if (-not $fault -and (Get-Acl -LiteralPath $Path).Sddl -cnotmatch 'D:[A-Z]*P') {
            Protect-FpFolder -Path $Path
            $fault = Test-FpFolder -Path $Path
        }
    } catch [System.UnauthorizedAccessException], [System.IO.IOException] {
        Deny-FpOrder -Why "cannot write ${Path}: $(Get-FpCause $_)" -About room
    }
    if ($fault -clike 'cannot write *') { Deny-FpOrder -Why $fault -About room }
    if ($fault) { Deny-FpOrder -Why $fault }
}
