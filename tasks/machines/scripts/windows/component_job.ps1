# A job: downloads a version of a component, installs it, or puts the version before back. It never reboots, and never
# ends an installation that has begun.
# Parameters: those of transactions; tx_N_component, tx_N_kind, tx_N_package, tx_N_version, tx_N_url and tx_N_sha256
# (its file; without a URL, the controller has sent it), tx_N_before_url and tx_N_before_sha256 (the same for the
# version that is there: it must be on the machine for the way back), tx_N_command (the owner's own installation),
# tx_N_settings (list of NAME=VALUE), tx_N_keep (list of digests: other files are removed).
# Step: install
# Changes: the component: its packages or files
# Requires: programs, commands, component_files, component_products, transactions

$FpUnlimited = 2000000 # seconds; the longest wait that .NET knows is 2147483

function Get-FpOrderPart {
    # A parameter of a transaction.
    param([hashtable] $Part, [string] $Name)
    return (Get-FpParam -Name "tx_$($Part.Number)_$Name")
}

function Save-FpDownload {
    # Downloads a file, and ends that when its time is over or a stop is requested. Returns "stop", "window" or ''.
    param([string] $Url, [string] $Path, [int64] $StopAt)
    [System.Net.ServicePointManager]::SecurityProtocol = [System.Net.ServicePointManager]::SecurityProtocol -bor
        [System.Net.SecurityProtocolType]::Tls12
    $request = [System.Net.WebRequest]::Create($Url)
    $request.Timeout = 30000
    $request.ReadWriteTimeout = 60000
    $answer = $request.GetResponse()
    try {
        $source = $answer.GetResponseStream()
        $target = [System.IO.File]::Create($Path)
        try {
            $buffer = [byte[]]::new(262144)
            while ($true) {
                if (Test-FpStopRequested) { return 'stop' }
                if (Test-FpOver $StopAt) { return 'window' }
                $count = $source.Read($buffer, 0, $buffer.Length)
                if ($count -le 0) { return '' }
                $target.Write($buffer, 0, $count)
            }
        } finally {
            $target.Dispose()
        }
    } finally {
        $answer.Dispose()
    }
}

function Get-FpFile {
    # Brings a file of the component to the machine. Returns Ended ("stop", "window" or ''), and Problem or ''.
    param([hashtable] $Part, [string] $Url, [string] $Digest)
    $none = @{ Ended = ''; Problem = '' }
    if ($Digest -eq '') { return $none }
    $path = Join-Path -Path $Part.Folder -ChildPath $Digest
    if (Test-FpComponentFile $path $Digest) { return $none }
    if ($Url -eq '') { return @{ Ended = ''; Problem = "fetch: the controller has not sent the file $Digest" } }
    $unfinished = "$path.part"
    try {
        $ended = Save-FpDownload -Url $Url -Path $unfinished -StopAt $Part.StopAt
        if ($ended -ne '') { return @{ Ended = $ended; Problem = '' } }
        if ((Get-FpDigest $unfinished) -cne $Digest) {
            $problem = "fetch: its file has another digest than ${Digest}: it was exchanged, or is damaged"
            return @{ Ended = ''; Problem = $problem }
        }
        [System.IO.File]::Delete($path)
        [System.IO.File]::Move($unfinished, $path)
        return $none
    } catch {
        return @{ Ended = ''; Problem = "fetch: its download failed: $_" }
    } finally {
        [System.IO.File]::Delete($unfinished)
    }
}

function Get-FpAllFiles {
    # The file of the version that comes, and of the one that is there.
    param([hashtable] $Part)
    if ((Get-FpParam -Name work) -cne 'roll-back') {
        $before = @{
            Url = (Get-FpOrderPart $Part 'before_url')
            Digest = (Get-FpOrderPart $Part 'before_sha256')
        }
        $found = Get-FpFile -Part $Part @before
        if ($found.Ended -ne '' -or $found.Problem -ne '') { return $found }
    }
    return (Get-FpFile -Part $Part -Url (Get-FpOrderPart $Part 'url') -Digest (Get-FpOrderPart $Part 'sha256'))
}

function Invoke-FpMsi {
    # Runs Windows Installer; while another installation is at work (1618), again until the latest start.
    param([hashtable] $Part, [string[]] $Arguments)
    $path = Join-Path -Path (Join-Path -Path $env:SystemRoot -ChildPath 'System32') -ChildPath 'msiexec.exe'
    while ($true) {
        $process = Start-Process -FilePath $path -ArgumentList $Arguments -Wait -PassThru -WindowStyle Hidden
        $code = $process.ExitCode
        if ($code -ne 1618 -or (Test-FpOver $Part.Latest) -or (Test-FpStopRequested)) { break }
        Write-FpLogLine 'another installation is at work'
        Start-Sleep -Seconds 10
    }
    $isGood = @(0, 3010, 1641) -contains $code # a reboot is wanted, and not done
    if ($isGood) { return @{ ExitCode = 0; Text = ''; Reboot = ($code -ne 0) } }
    return @{ ExitCode = $code; Text = "msiexec.exe ended with $code"; Reboot = $false }
}

function Install-FpMsi {
    param([hashtable] $Part)
    $file = Join-Path -Path $Part.Folder -ChildPath 'install.msi'
    [System.IO.File]::Copy((Join-Path -Path $Part.Folder -ChildPath (Get-FpOrderPart $Part 'sha256')), $file, $true)
    if ((Get-FpParam -Name work) -ceq 'roll-back') {
        # Windows Installer installs no older version over a newer one
        foreach ($product in @(Get-FpProducts (Get-FpOrderPart $Part 'package'))) {
            if ($product.Code -notmatch '\A\{[0-9A-Fa-f-]{36}\}\z') { continue }
            $removed = Invoke-FpMsi $Part @('/x', $product.Code, '/qn', '/norestart')
            if ($removed.ExitCode -ne 0) { return $removed }
        }
    }
    $list = @('/i', "`"$file`"", '/qn', '/norestart')
    foreach ($setting in @(Get-FpListParam "tx_$($Part.Number)_settings")) {
        $name, $value = $setting -split '=', 2
        $escaped = $value.Replace('"', '""') # inside a text in quotes, '""' would be one quote
        $list += "$name=`"$escaped`""
    }
    return (Invoke-FpMsi $Part $list)
}

function Install-FpCommand {
    # The owner's own installation, in PowerShell, with the file and the settings.
    param([hashtable] $Part)
    $environment = @{}
    foreach ($setting in @(Get-FpListParam "tx_$($Part.Number)_settings")) {
        $name, $value = $setting -split '=', 2
        $environment[$name] = $value
    }
    $environment['FLEETPATCH_FILE'] = Join-Path -Path $Part.Folder -ChildPath (Get-FpOrderPart $Part 'sha256')
    $environment['FLEETPATCH_VERSION'] = Get-FpOrderPart $Part 'version'
    $environment['FLEETPATCH_COMPONENT'] = Get-FpOrderPart $Part 'component'
    $command = Get-FpOrderPart $Part 'command'
    return (Invoke-FpCommand -Command $command -Seconds $FpUnlimited -Environment $environment)
}

function Install-FpByTool {
    # By winget or Chocolatey.
    param([hashtable] $Part, [string] $Kind)
    $package, $version = (Get-FpOrderPart $Part 'package'), (Get-FpOrderPart $Part 'version')
    $isBack = (Get-FpParam -Name work) -ceq 'roll-back'
    if ($Kind -ceq 'winget') {
        $tool = Get-FpWinget
        $list = @('install', '--id', $package, '--exact', '--version', $version, '--silent', '--force',
            '--accept-source-agreements', '--accept-package-agreements', '--disable-interactivity')
        if ($isBack) { $list += '--uninstall-previous' }
    } else {
        $tool = Get-FpChoco
        $list = @('upgrade', $package, '--version', $version, '--yes', '--no-progress')
        if ($isBack) { $list += '--allow-downgrade' }
    }
    if ($tool -eq '') { return @{ ExitCode = 127; Text = "$Kind is not on this machine" } }
    return (Invoke-FpTool $tool $list)
}

function Install-FpComponent {
    param([hashtable] $Part)
    $kind = Get-FpOrderPart $Part 'kind'
    if ((Get-FpOrderPart $Part 'command') -ne '') { return (Install-FpCommand $Part) }
    if ($kind -ceq 'msi') { return (Install-FpMsi $Part) }
    if (@('winget', 'choco') -ccontains $kind) { return (Install-FpByTool $Part $kind) }
    return @{ ExitCode = 2; Text = "components of kind $kind can't be installed on this system" }
}

function Remove-FpOldFiles {
    param([hashtable] $Part)
    $keep = @(Get-FpListParam "tx_$($Part.Number)_keep")
    foreach ($file in @(Get-ChildItem -LiteralPath $Part.Folder -File)) {
        if ($keep -cnotcontains $file.Name) { Remove-Item -LiteralPath $file.FullName -Force }
    }
}

Invoke-FpTransactions {
    param([hashtable] $Part)
    $work = Get-FpParam -Name work
    $Part.Folder = Get-FpComponentFolder (Get-FpOrderPart $Part 'component')
    if ($work -ceq 'stage') { Write-FpTransactionStarted $Part } else { Write-FpDownloadStarted $Part }
    $found = Get-FpAllFiles $Part
    if ($found.Ended -ne '') { Write-FpNotBegun $Part -Ended $found.Ended; return }
    if ($found.Problem -ne '') {
        Write-FpTransactionEnded $Part -ExitCode 1 -Cause 'fetch' -Message $found.Problem
        return
    }
    if ($work -ceq 'stage') { Write-FpTransactionEnded $Part; return }
    if (Test-FpHindered $Part) { return }
    if (Test-FpOver $Part.Latest) { Write-FpNotAttempted $Part -Why 'download'; return }
    Write-FpTransactionStarted $Part
    try {
        $done = Install-FpComponent $Part
    } catch {
        $done = @{ ExitCode = 1; Text = "$_" }
    }
    $text = ([string]$done.Text).Trim()
    if ($text -ne '') { Write-FpLogLine $text }
    Remove-FpOldFiles $Part
    if ($done.ExitCode -eq 0) { Write-FpTransactionEnded $Part -Reboot ([bool]$done['Reboot']); return }
    if ($text.Length -gt 400) { $text = $text.Substring($text.Length - 400) }
    $text = $text.Replace("`r", ' ').Replace("`n", '; ')
    $number = [int64]$done.ExitCode -band 4294967295 # without its sign
    Write-FpTransactionEnded $Part -ExitCode $number -Cause 'failed' -Message "failed: $text"
}
