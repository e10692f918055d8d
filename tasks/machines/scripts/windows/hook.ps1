# Runs a hook's command, in PowerShell. Parameters: command, timeout (whole seconds), run, machine, place, name, state
# (of the machine so far; only after it). Record: hook, with the exit code, the end of the output, and whether the
# timeout has ended it.
# The timeout ends the command with all its children: it is no package transaction.
# Step: install
# Changes: what the owner's command changes
# Requires: programs, commands

$environment = @{}
foreach ($name in 'run', 'machine', 'place', 'state') {
    $environment["FLEETPATCH_$($name.ToUpperInvariant())"] = Get-FpParam -Name $name
}
$environment['FLEETPATCH_HOOK'] = Get-FpParam -Name name
$command = Get-FpParam -Name command
$answer = Invoke-FpCommand -Command $command -Seconds (Get-FpSeconds -Default 300) -Environment $environment
Write-FpRecord -Kind hook -Fields ([ordered]@{
        exit_code = $answer.ExitCode; text = $answer.Text; timed_out = $answer.TimedOut
    })
