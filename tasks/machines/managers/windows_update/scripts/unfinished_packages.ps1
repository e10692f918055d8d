# Finds a change of packages that is at work. A reboot or a restart of services would interrupt it.
# Requires: registry_values

function Find-FpUnfinished {
    # Who changes packages now, or ''. Windows servicing says it in the registry: 2 while it works, 1 while it only
    # waits for a reboot.
    $servicing = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing'
    $servicing = Get-FpRegistryNumber "$servicing\Interface" 'ServicingInProgress'
    if ($servicing -eq 2) { return 'Windows servicing is at work' }
    return ''
}
