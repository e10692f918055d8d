# Runs a check's command, in PowerShell. Parameters: command, timeout (whole seconds). Record: probe, with the end of
# its output. The timeout ends the command (exit code 124): it is no package transaction.
# Step: precheck
# Changes: what the owner's command changes
# Requires: programs, commands

$answer = Invoke-FpCommand -Command (Get-FpParam -Name command) -Seconds (Get-FpSeconds -Default 30)
Write-FpRecord -Kind probe -Fields ([ordered]@{ exit_code = $answer.ExitCode; text = $answer.Text })
