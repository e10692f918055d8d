# On a runner that is thrown away: makes a local administrator with a random password, an HTTPS listener of WinRM with a
# new certificate, and lets the update agent work, which hosted runners have disabled. No port is opened to the outside.
# The next steps get the account, the password (masked) and the certificate's SHA-256 as environment variables.
$ErrorActionPreference = 'Stop'
if (-not $env:GITHUB_ENV) { throw 'This changes the machine: it is for a runner that is thrown away.' }

$bytes = New-Object -TypeName 'byte[]' -ArgumentList 24
[System.Security.Cryptography.RandomNumberGenerator]::Create().GetBytes($bytes)
$password = 'Fp1-' + [System.BitConverter]::ToString($bytes).Replace('-', '').ToLowerInvariant()
Write-Output "::add-mask::$password"
$secret = New-Object -TypeName System.Security.SecureString
foreach ($char in $password.ToCharArray()) { $secret.AppendChar($char) }
$null = New-LocalUser -Name fleetpatch -Password $secret -Description 'of a test; may be removed'
Add-LocalGroupMember -SID S-1-5-32-544 -Member fleetpatch
$policies = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System'
Set-ItemProperty -Path $policies -Name LocalAccountTokenFilterPolicy -Value 1 -Type DWord

Enable-PSRemoting -SkipNetworkProfileCheck -Force
$new = @{ DnsName = 'localhost', $env:COMPUTERNAME; CertStoreLocation = 'Cert:\LocalMachine\My' }
$certificate = New-SelfSignedCertificate @new -NotAfter (Get-Date).AddDays(30)
$listener = @{ Path = 'WSMan:\localhost\Listener'; Transport = 'HTTPS'; Address = '*' }
$null = New-Item @listener -CertificateThumbPrint $certificate.Thumbprint -Force
Set-Service -Name wuauserv -StartupType Manual
Start-Service -Name wuauserv

$digest = [System.Security.Cryptography.SHA256]::Create().ComputeHash($certificate.RawData)
$lines = @(
    'WINDOWS_USER=fleetpatch'
    "WINDOWS_PASSWORD=$password"
    "WINDOWS_THUMBPRINT=$([System.BitConverter]::ToString($digest).Replace('-', ''))"
    'WSLENV=WINDOWS_USER:WINDOWS_PASSWORD:WINDOWS_THUMBPRINT' # what WSL hands on to Linux
)
[System.IO.File]::AppendAllText($env:GITHUB_ENV, ($lines -join "`n") + "`n")
