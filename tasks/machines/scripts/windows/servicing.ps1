# Functions that find out what prevents a reboot of this machine. They change nothing.
# Requires: programs, shutdown_events, unfinished_packages

# The note about the last reboot order: the file "reboot" beside the lock, with the boot id, the run, what became of it
# ("trying", "taken" or "foreign": somebody else has scheduled a shutdown), when, and why.
function Get-FpNotePath { Join-Path -Path (Get-FpRoot) -ChildPath 'reboot' }

function Read-FpRebootNote { # of an order of this boot, or nothing
    param([string] $BootId)
    $note = Read-FpJson -Path (Get-FpNotePath)
    if ((Get-FpField -Object $note -Name boot) -ne $BootId) { return }
    @{
        Said = Get-FpField -Object $note -Name said; Why = Get-FpField -Object $note -Name why
        Run = Get-FpField -Object $note -Name run
        At = ConvertTo-FpNumber (Get-FpField -Object $note -Name at)
    }
}

function Save-FpRebootNote {
    param([string] $BootId, [string] $Run, [string] $Said, [string] $Why = '')
    $note = [ordered]@{ boot = $BootId; run = $Run; said = $Said; at = Get-FpNow; why = $Why }
    Save-FpText -Path (Get-FpNotePath) -Text (ConvertTo-FpJson -Value $note)
}

# Whether an order that was accepted was aborted by somebody: @{ About; Why }, or nothing.
function Find-FpAbort {
    param($Note)
    if ($null -eq $Note -or $Note.Said -ne 'taken') { return }
    $last = Get-FpShutdownEvent -Since $Note.At
    if ($null -eq $last -or $last.Id -ne 1075) { return }
    @{ About = 'inhibitor'; Why = "somebody has aborted the reboot: $($last.Words)" }
}

# What the programs of Windows' servicing have used so far: seconds of processor time, and bytes read and written;
# nothing if that can't be read.
function Get-FpWorkerUse {
    $use = @{ Seconds = 0.0; Bytes = 0.0 }
    try {
        foreach ($program in 'TiWorker.exe', 'TrustedInstaller.exe') {
            $question = @{ ClassName = 'Win32_Process'; Filter = "Name='$program'"; OperationTimeoutSec = 8 }
            foreach ($process in @(Get-CimInstance @question -ErrorAction Stop)) {
                $use.Seconds += ([double] $process.KernelModeTime + [double] $process.UserModeTime) / 10000000
                $use.Bytes += [double] $process.ReadTransferCount + [double] $process.WriteTransferCount
            }
        }
    } catch {
        return
    }
    $use
}

# The worker of Windows' servicing remains for some minutes after its work: only one that works prevents a reboot. It
# often waits for the disk, or pauses: so it is looked at for six seconds.
function Test-FpWorkerBusy {
    if (-not (Get-Process -Name TiWorker, TrustedInstaller -ErrorAction SilentlyContinue)) { return $false }
    $before = Get-FpWorkerUse
    for ($look = 0; $look -lt 4; $look++) {
        if ($null -eq $before) { return $true }
        Start-Sleep -Milliseconds 1500
        $after = Get-FpWorkerUse
        if ($null -eq $after) { return $true }
        if ($after.Seconds - $before.Seconds -gt 0.1 -or $after.Bytes - $before.Bytes -gt 65536) { return $true }
        $before = $after
    }
    $false
}

function Open-FpInstallerMutex { # an error if there is none
    [System.Threading.Mutex]::OpenExisting('Global\_MSIExecute')
}

function Test-FpInstallerBusy { # whether Windows Installer (MSI) is in an installation: it keeps this mutex meanwhile
    $mutex = $null
    try {
        $mutex = Open-FpInstallerMutex
        if (-not $mutex.WaitOne(0)) { return $true }
        $mutex.ReleaseMutex()
        $false
    } catch [System.Threading.AbandonedMutexException] {
        $mutex.ReleaseMutex()
        $false
    } catch [System.UnauthorizedAccessException] {
        # it exists, and only its owner may ask: then the key says whether an installation runs
        Test-Path -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Installer\InProgress'
    } catch {
        $false # there is no such mutex
    } finally {
        if ($null -ne $mutex) { $mutex.Dispose() }
    }
}

# What prevents a reboot for a run: @{ About (lock or inhibitor); Why }, or nothing. Who has aborted the run's reboot
# does not want it now: the run does not order it again. Another run may.
function Find-FpObstacle {
    param($Note, [string] $Run)
    $abort = Find-FpAbort -Note $Note
    if ($null -ne $abort -and $Note.Run -ceq $Run) { return $abort }
    if ((Get-FpServicingState) -eq 2) {
        return @{ About = 'lock'; Why = 'Windows is installing or removing updates (component servicing works)' }
    }
    $unfinished = "$(Find-FpUnfinished)"
    if ($unfinished) { return @{ About = 'lock'; Why = $unfinished } }
    if (Test-FpInstallerBusy) { return @{ About = 'lock'; Why = 'Windows Installer (msiexec) is in an installation' } }
    if (Test-FpWorkerBusy) { return @{ About = 'lock'; Why = 'TiWorker.exe is installing or removing updates' } }
    # whether a foreign shutdown is still scheduled can't be asked: after two minutes, the next order finds out
    if ($null -eq $Note -or $Note.Said -ne 'foreign' -or (Get-FpNow) - $Note.At -ge 120) { return }
    $last = Get-FpShutdownEvent -Since $Note.At
    if ($null -ne $last -and $last.Id -eq 1075) { return }
    @{ About = 'inhibitor'; Why = $Note.Why }
}
