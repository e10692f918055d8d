# Lays down the document of scheduled events for the programs of this machine, and looks for their approvals beside it.
# All users may read the document and approve, as on Azure. Only SYSTEM and the administrators may change it.
# Parameters: work (look or tell), folder (where it lies), document (its text, on one line), events (list: the ids of
# events whose approvals are looked for), over (list: the ids of events whose approvals are removed).
# Records: document (text: that of the document which lies there; '': none), approval (event: somebody approves it),
# told, or refused (why).
# Step: install
# Changes: the document of scheduled events, and its approvals
# Requires: job_common

$FpUsers = '*S-1-5-32-545'

function Invoke-FpIcacls {
    param([string] $Path, [string] $Rights)
    $done = Invoke-FpProgram -Name icacls.exe -Arguments $Path, '/grant', "${FpUsers}:$Rights", '/Q'
    if ($done.ExitCode -ne 0) { Deny-FpOrder -Why "cannot write ${Path}: icacls.exe failed ($($done.ExitCode))" }
}

function Initialize-FpApprovals { # where all users may add an approval, and see none of others
    param([string] $Path)
    if (-not [System.IO.Directory]::Exists($Path)) {
        $null = [System.IO.Directory]::CreateDirectory($Path)
        Protect-FpFolder -Path $Path
    }
    $attributes = [System.IO.File]::GetAttributes($Path)
    if ($attributes -band [System.IO.FileAttributes]::ReparsePoint) { Deny-FpOrder -Why "$Path is a link" }
    if ((Get-Acl -LiteralPath $Path).Sddl -cnotmatch '^O:(BA|SY)') { Deny-FpOrder -Why "$Path belongs to another user" }
    Invoke-FpIcacls -Path $Path -Rights '(WD,X,S)'
}

function Save-FpDocument {
    param([string] $Path)
    try {
        Save-FpText -Path $Path -Text "$(Get-FpParam -Name document)`n"
    } catch {
        Deny-FpOrder -Why "cannot write ${Path}: $(Get-FpCause $_)"
    }
}

function Remove-FpApproval { # nobody asks for it again: one that its user keeps may stay
    param([string] $Path)
    try {
        [System.IO.File]::Delete($Path)
    } catch [System.UnauthorizedAccessException], [System.IO.IOException] {
        Write-Verbose -Message "$Path stays: $(Get-FpCause $_)"
    }
}

function Test-FpEventId {
    param([string] $Id)
    $Id -cmatch '^[0-9a-f-]{36}$'
}

Invoke-FpOrder -Order {
    $folder = Get-FpParam -Name folder -Default (Join-Path -Path $env:ProgramData -ChildPath 'fleetpatch-events')
    $file = Join-Path -Path $folder -ChildPath 'scheduledevents.json'
    $approvals = Join-Path -Path $folder -ChildPath 'approve'
    if ((Get-FpParam -Name work) -ceq 'tell') {
        Initialize-FpFolder -Path $folder
        Invoke-FpIcacls -Path $folder -Rights '(OI)(CI)RX'
        Initialize-FpApprovals -Path $approvals
        Save-FpDocument -Path $file
        foreach ($id in @(Get-FpListParam -Name over)) {
            if (Test-FpEventId -Id $id) { Remove-FpApproval -Path (Join-Path -Path $approvals -ChildPath $id) }
        }
        Write-FpRecord -Kind told
        return
    }
    if (-not [System.IO.Directory]::Exists($folder)) {
        Write-FpRecord -Kind document -Fields @{ text = '' }
        return
    }
    $fault = Test-FpFolder -Path $folder
    if ($fault) { Deny-FpOrder -Why $fault }
    $text = ''
    if ([System.IO.File]::Exists($file)) { $text = [System.IO.File]::ReadAllText($file).TrimEnd("`r", "`n") }
    Write-FpRecord -Kind document -Fields @{ text = $text }
    foreach ($id in @(Get-FpListParam -Name events)) {
        # only names that are asked for: whoever fills the folder with others delays nobody
        if ((Test-FpEventId -Id $id) -and [System.IO.File]::Exists((Join-Path -Path $approvals -ChildPath $id))) {
            Write-FpRecord -Kind approval -Fields @{ event = $id }
        }
    }
}
