# A function that tells which rights the login has.

# "administrator"; "filtered": it is in the group of administrators, and Windows has taken those rights away for logins
# over the network; or "none".
function Get-FpPrivilege {
    $administrators = [System.Security.Principal.SecurityIdentifier]::new('S-1-5-32-544')
    $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    try {
        $principal = [System.Security.Principal.WindowsPrincipal]::new($identity)
        if ($principal.IsInRole($administrators)) { return 'administrator' }
        $denied = @($identity.Claims | Where-Object -FilterScript {
                $_.Type -like '*/denyonly*' -and $_.Value -eq $administrators.Value
            })
        if ($denied.Count) { 'filtered' } else { 'none' }
    } finally {
        $identity.Dispose()
    }
}
