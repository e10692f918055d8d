# Functions that look up error codes in the table that the controller sends: parameter codes, a list of
# "0x80240022|CAUSE|RETRY|TEXT". A code "0x80244xxx" stands for all codes of a family that have no line of their own.
# "NAME:0x80070643" is the code of the update of that name.

$FpCodes = @{}
foreach ($line in @(Get-FpListParam 'codes')) {
    $fields = @($line -split '\|', 4)
    if ($fields.Count -eq 4) { $FpCodes[$fields[0]] = @{ Cause = $fields[1]; Retry = $fields[2]; Text = $fields[3] } }
}

function Get-FpCode {
    # What is known of a code: Code, Cause, Retry and Text ("0x80240022 NAME: meaning"). Name is that of an update.
    param([Parameter(Mandatory = $true, Position = 0)][int64] $Code, [string] $Name = '')
    $hex = '0x{0:X8}' -f $Code
    $known = $FpCodes["${Name}:$hex"]
    if ($null -eq $known) { $known = $FpCodes[$hex] }
    if ($null -eq $known) { $known = $FpCodes[$hex.Substring(0, 7) + 'xxx'] }
    if ($null -eq $known) { $known = $FpCodes[$hex.Substring(0, 6) + 'xxxx'] }
    if ($null -eq $known) {
        $known = @{ Cause = 'failed'; Retry = 'permanent'; Text = ': an error that is not in the table' }
    }
    return @{ Code = $Code; Cause = $known.Cause; Retry = $known.Retry; Text = $hex + $known.Text }
}
