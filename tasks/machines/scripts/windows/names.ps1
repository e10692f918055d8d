# Reports by which names and ids others know this machine, its owner and this login, so that they can be replaced in
# what is given away. Record: name (of: host, domain, user, serial or machineid; value). It has no parameters and
# changes nothing. What does not answer is left out.
# Step: order
# Changes: nothing

function Write-FpName {
    param([string] $Of, [object] $Value)
    if ("$Value" -ne '') { Write-FpRecord -Kind name -Fields ([ordered]@{ of = $Of; value = "$Value" }) }
}

function Write-FpNamesOfClass { # CLASS, @{ property = kind of its value }
    param([string] $Class, [System.Collections.IDictionary] $Kinds)
    try {
        foreach ($instance in @(Get-CimInstance -ClassName $Class -OperationTimeoutSec 8 -ErrorAction Stop)) {
            foreach ($name in $Kinds.Keys) {
                $member = $instance.PSObject.Members[$name]
                if ($null -ne $member) { Write-FpName -Of $Kinds[$name] -Value $member.Value }
            }
        }
    } catch {
        [System.Console]::Error.WriteLine("${Class}: $(Get-FpErrorMessage $_)")
    }
}

Write-FpName -Of host -Value $env:COMPUTERNAME
Write-FpName -Of user -Value $env:USERNAME
if (Test-Path -LiteralPath 'HKLM:\Cluster') {
    Write-FpName -Of host -Value (Get-Item -LiteralPath 'HKLM:\Cluster').GetValue('ClusterName')
}
Write-FpName -Of domain -Value $env:USERDOMAIN
Write-FpName -Of domain -Value $env:USERDNSDOMAIN
Write-FpNamesOfClass -Class Win32_ComputerSystem -Kinds ([ordered]@{
        Name = 'host'; DNSHostName = 'host'; Domain = 'domain'; Workgroup = 'domain'; UserName = 'user'
        PrimaryOwnerName = 'user'
    })
Write-FpNamesOfClass -Class Win32_OperatingSystem -Kinds ([ordered]@{
        RegisteredUser = 'user'; Organization = 'domain'
    })
Write-FpNamesOfClass -Class Win32_BIOS -Kinds ([ordered]@{ SerialNumber = 'serial' })
Write-FpNamesOfClass -Class Win32_ComputerSystemProduct -Kinds ([ordered]@{ UUID = 'machineid' })
