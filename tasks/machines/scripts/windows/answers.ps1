# The start of every script: parameters, records, and the end. Windows PowerShell 5.1 and PowerShell 7; only ASCII.
# Some scripts begin with nothing else ("# Prelude: answers"): where a machine logs what PowerShell runs, each of their
# calls is in its log. All others have prelude.ps1 as well.
# Records go framed to stdout, or as JSON lines to a job's events file. Everything else that a script prints is unframed
# output (or the job's log).
# The transport sets $FpParams (an object: a text has "=" before it, so that no ConvertFrom-Json takes one for a date; a
# list is an array of such texts) and $FpMark (framed) or $FpJobDirectory (in a job; job_run.ps1 also sets $FpState
# before, reads its ExitCode in a finally block, and runs this text by dot sourcing).
# A script ends with its last line, with return (exit code 0), or with Exit-FpScript CODE; never with exit, which would
# hide its code. An error that it does not catch becomes a record "error", and exit code 1.

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue' # progress would be written to stderr
$WarningPreference = 'Continue'
$ConfirmPreference = 'None'
if (-not (Test-Path -LiteralPath 'variable:FpMark')) { $FpMark = '' }
if (-not (Test-Path -LiteralPath 'variable:FpJobDirectory')) { $FpJobDirectory = '' }
if (-not (Test-Path -LiteralPath 'variable:FpParams')) { $FpParams = ConvertFrom-Json -InputObject '{}' }
# functions change its items: they can't set their caller's variables
if (-not (Test-Path -LiteralPath 'variable:FpState')) { $FpState = @{ ExitCode = 0; ClockBase = $null } }
$FpFrame = @{ Length = 0 } # of all records in frames

# ---- parameters

function Get-FpParam {
    # A parameter, or the default if it is missing or empty. Of a list: an item a line.
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Name,
        [Parameter(Position = 1)][string] $Default = '',
        [object] $From = $FpParams
    )
    $text = (Get-FpListParam -Name $Name -From $From) -join "`n"
    if ($text -eq '') { return $Default }
    return $text
}

function Get-FpListParam {
    # The items of a parameter, one by one: write @(Get-FpListParam NAME). A missing list is empty.
    param([Parameter(Mandatory = $true, Position = 0)][string] $Name, [object] $From = $FpParams)
    $property = $From.PSObject.Members[$Name]
    if ($null -eq $property -or $null -eq $property.Value) { return }
    foreach ($item in $property.Value) { ([string]$item).Substring(1) }
}

# ---- JSON. ConvertTo-Json is not used: 5.1 and 7 write dates, enumerations, nested objects and single items
# differently, and 5.1 writes a string that Get-Content has read as an object.

function ConvertTo-FpJsonString {
    param([AllowEmptyString()][string] $Text)
    if ($Text -cnotmatch '[^ !#-\[\]-~]') { return '"' + $Text + '"' }
    $safe = $Text.Replace('\', '\\').Replace('"', '\"').Replace("`n", '\n').Replace("`r", '\r').Replace("`t", '\t')
    if ($safe -cmatch '[^ -~]') {
        # half a character is no text, and the other side refuses it
        $safe = [System.Text.RegularExpressions.Regex]::Replace(
            $safe, '[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]', [string][char]0xFFFD)
        $escape = [System.Text.RegularExpressions.MatchEvaluator] {
            param($found)
            '\u{0:x4}' -f [int][char]$found.Value
        }
        $safe = [System.Text.RegularExpressions.Regex]::Replace($safe, '[^ -~]', $escape)
    }
    return '"' + $safe + '"'
}

function ConvertTo-FpJson {
    # A value as JSON in ASCII: null, booleans, numbers, texts, dictionaries (ordered ones keep their order), and
    # arrays. A date becomes seconds since 1970, NaN and infinity become null, anything else its text.
    param([AllowNull()][object] $Value)
    if ($null -eq $Value -or $Value -is [System.DBNull]) { return 'null' }
    if ($Value -is [string] -or $Value -is [char]) { return (ConvertTo-FpJsonString -Text ([string]$Value)) }
    if ($Value -is [bool]) { if ($Value) { return 'true' } else { return 'false' } }
    if ($Value -is [datetime]) { return (ConvertTo-FpJson -Value (ConvertTo-FpEpoch -Time $Value)) }
    $invariant = [System.Globalization.CultureInfo]::InvariantCulture
    if ($Value -is [double] -or $Value -is [single]) {
        if ([double]::IsNaN($Value) -or [double]::IsInfinity($Value)) { return 'null' }
        return ([double]$Value).ToString('R', $invariant)
    }
    if ($Value -is [System.Enum]) { return (ConvertTo-FpJsonString -Text $Value.ToString()) }
    if ($Value -is [System.ValueType] -and $Value -is [System.IConvertible]) {
        return ([System.IConvertible]$Value).ToString($invariant)
    }
    if ($Value -is [System.Collections.IDictionary]) {
        $pairs = foreach ($key in $Value.Keys) {
            (ConvertTo-FpJsonString -Text ([string]$key)) + ':' + (ConvertTo-FpJson -Value $Value[$key])
        }
        return '{' + (@($pairs) -join ',') + '}'
    }
    if ($Value -is [System.Collections.IEnumerable]) {
        $items = foreach ($item in $Value) { ConvertTo-FpJson -Value $item }
        return '[' + (@($items) -join ',') + ']'
    }
    return (ConvertTo-FpJsonString -Text ([string]$Value))
}

# ---- records

function Write-FpLine {
    # One record, as JSON in ASCII.
    param([Parameter(Mandatory = $true)][string] $Json)
    if ($FpJobDirectory -ne '') {
        Write-FpJobLine -Json $Json
        return
    }
    $FpFrame.Length += $Json.Length
    # in pieces: the other side takes no line of more than 1 MiB
    $at = 0
    while ($Json.Length - $at -gt 60000) {
        [System.Console]::Out.Write("$FpMark+ " + $Json.Substring($at, 60000) + "`n")
        $at += 60000
    }
    [System.Console]::Out.Write("$FpMark= " + $Json.Substring($at) + "`n")
    [System.Console]::Out.Flush()
}

function Write-FpRecord {
    # One record: Write-FpRecord 'update' ([ordered]@{ id = $id; size_bytes = $size })
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Kind,
        [Parameter(Position = 1)][System.Collections.IDictionary] $Fields = @{}
    )
    $record = [ordered]@{ kind = $Kind }
    foreach ($key in $Fields.Keys) { $record[[string]$key] = $Fields[$key] }
    Write-FpLine -Json (ConvertTo-FpJson -Value $record)
}

function Write-FpSection {
    # A text, or the bytes of (a part of) a file, as one record "section". Bytes that are no UTF-8 become half
    # characters (U+DC80 to U+DCFF), so that the other side knows exactly which bytes they were.
    param(
        [Parameter(Mandatory = $true, Position = 0)][string] $Name,
        [Parameter(Position = 1)][AllowEmptyString()][string] $Text = '',
        [AllowNull()][AllowEmptyCollection()][byte[]] $Bytes = $null,
        [int] $ExitCode = 0,
        [string] $Stderr = ''
    )
    $quoted = if ($null -ne $Bytes) { ConvertTo-FpJsonBytes -Bytes $Bytes } else { ConvertTo-FpJsonString -Text $Text }
    $code = $ExitCode
    if ($code -lt 0 -or $code -gt 255) { $code = 255 } # the other side knows no larger ones
    Write-FpLine -Json ('{"kind":"section","name":' + (ConvertTo-FpJsonString -Text $Name) + ',"text":' + $quoted +
        ',"exit_code":' + (ConvertTo-FpJson -Value $code) + ',"stderr":' + (ConvertTo-FpJsonString -Text $Stderr) + '}')
}

function ConvertTo-FpJsonBytes {
    param([AllowNull()][AllowEmptyCollection()][byte[]] $Bytes)
    if ($null -eq $Bytes -or $Bytes.Length -eq 0) { return '""' }
    # one character for each byte, then the sequences that are UTF-8 become characters again
    $latin = [System.Text.Encoding]::GetEncoding(28591)
    $safe = $latin.GetString($Bytes).Replace('\', '\\').Replace('"', '\"')
    $safe = $safe.Replace("`n", '\n').Replace("`r", '\r').Replace("`t", '\t')
    if ($safe -cmatch '[^ -~]') {
        $pattern = '[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|' +
            '\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|' +
            '\xF4[\x80-\x8F][\x80-\xBF]{2}|[^ -~]'
        $escape = [System.Text.RegularExpressions.MatchEvaluator] {
            param($found)
            $piece = [string]$found.Value
            if ($piece.Length -eq 1) {
                $number = [int][char]$piece
                if ($number -ge 128) { $number += 0xDC00 }
                return ('\u{0:x4}' -f $number)
            }
            $chars = [System.Text.Encoding]::UTF8.GetString($latin.GetBytes($piece)).ToCharArray()
            return (@(foreach ($char in $chars) { '\u{0:x4}' -f [int]$char }) -join '')
        }
        $safe = [System.Text.RegularExpressions.Regex]::Replace($safe, $pattern, $escape)
    }
    return '"' + $safe + '"'
}

# ---- errors and the end

function Get-FpBaseException { # the innermost one: what PowerShell puts around a COM error has a code of its own
    param([Parameter(Mandatory = $true, Position = 0)][object] $Failure)
    if ($Failure -is [System.Management.Automation.ErrorRecord]) { $Failure = $Failure.Exception }
    return $Failure.GetBaseException()
}

function Get-FpHResult { # the code of an error, as a number without a sign (0x80070005 is 2147942405)
    param([Parameter(Mandatory = $true, Position = 0)][object] $Failure)
    return ([int64](Get-FpBaseException $Failure).HResult -band 4294967295)
}

function Get-FpErrorMessage { # what the innermost exception says
    param([Parameter(Mandatory = $true, Position = 0)][object] $Failure)
    return ([string](Get-FpBaseException $Failure).Message).Trim()
}

function Write-FpError {
    # A record "error" of an error that was caught, with its code and its place, and the same as a text.
    param([Parameter(Mandatory = $true, Position = 0)][System.Management.Automation.ErrorRecord] $Failure)
    $code = Get-FpHResult -Failure $Failure
    $message = Get-FpErrorMessage -Failure $Failure
    $statement = ''
    $number = 0
    if ($null -ne $Failure.InvocationInfo) {
        $statement = ([string]$Failure.InvocationInfo.Line).Trim()
        $number = $Failure.InvocationInfo.ScriptLineNumber
    }
    $place = (([string]$Failure.ScriptStackTrace) -split "`r?`n")[0]
    Write-FpRecord 'error' ([ordered]@{
            message = $message
            hresult = $code
            exception = $Failure.Exception.GetType().FullName
            line = $number
            statement = $statement
            place = $place
        })
    [System.Console]::Error.WriteLine(('{0} (0x{1:X8}) {2}: {3}' -f $message, $code, $place, $statement))
}

function Exit-FpScript {
    # End the script with an exit code from 0 to 255.
    param([Parameter(Position = 0)][int] $Code = 0)
    $FpState.ExitCode = $Code
    exit $Code
}

function Write-FpEnd {
    # The end of the answer, with the length of all records; the transport calls it, whatever happens.
    if ($FpMark -eq '') { return }
    $code = [int]$FpState.ExitCode
    if ($code -lt 0 -or $code -gt 255) { $code = 255 }
    [System.Console]::Out.Write("`n$FpMark! $code $($FpFrame.Length)`n")
    [System.Console]::Out.Flush()
}

# ---- folders

function Get-FpRoot {
    # The folder of everything that fleetpatch keeps on the machine.
    if ($FpJobDirectory -ne '') { return (Split-Path -Parent -Path (Split-Path -Parent -Path $FpJobDirectory)) }
    return (Get-FpParam -Name 'root' -Default (Join-Path -Path $env:SystemRoot -ChildPath 'FleetPatch'))
}
