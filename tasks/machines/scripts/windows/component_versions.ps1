# Asks for the installed versions of components. Changes nothing.
# Parameters: count, timeout (whole seconds, of each question), c_N_kind, c_N_package, c_N_command (the owner's own
# question; empty: that of the kind). Records: a section for each, named by its number, with the answer as it came.
# Step: assess
# Changes: nothing. The owner's own question is a command of the owner
# Requires: programs, commands, component_products

function Get-FpVersionAnswer {
    param([string] $Kind, [string] $Package, [string] $Command)
    if ($Command -ne '') { return (Invoke-FpCommand -Command $Command -Seconds (Get-FpSeconds -Default 30)) }
    switch ($Kind) {
        'msi' {
            $versions = @(Get-FpProducts $Package | ForEach-Object -Process { $_.Version })
            return @{ ExitCode = 0; Text = ($versions -join "`n") }
        }
        'winget' {
            $tool = Get-FpWinget
            if ($tool -eq '') { return @{ ExitCode = 127; Text = '' } }
            $list = 'list', '--id', $Package, '--exact', '--accept-source-agreements', '--disable-interactivity'
            $answer = Invoke-FpTool $tool $list
            $found = [regex]::Match($answer.Text, '(?m)\s' + [regex]::Escape($Package) + '\s+(\S+)')
            if ($found.Success) { return @{ ExitCode = 0; Text = $found.Groups[1].Value } }
            # 0x8A150014: no package matches
            if ($answer.ExitCode -eq -1978335212) { return @{ ExitCode = 0; Text = '' } }
            return @{ ExitCode = 1; Text = $answer.Text }
        }
        'choco' {
            $tool = Get-FpChoco
            if ($tool -eq '') { return @{ ExitCode = 127; Text = '' } }
            $list = @('list', '--limit-output', '--exact', $Package)
            # before 2.0, "list" asks the repositories
            if ((Invoke-FpTool $tool @('--version')).Text -match '^[01]\.') { $list += '--local-only' }
            return (Invoke-FpTool $tool $list)
        }
    }
    return @{ ExitCode = 2; Text = "no question is known for components of kind $Kind on this system" }
}

for ($number = 0; $number -lt [int](Get-FpParam -Name count); $number++) {
    $answer = @{ ExitCode = 1; Text = '' }
    try {
        $asked = @{
            Kind = (Get-FpParam -Name "c_${number}_kind")
            Package = (Get-FpParam -Name "c_${number}_package")
            Command = (Get-FpParam -Name "c_${number}_command")
        }
        $answer = Get-FpVersionAnswer @asked
    } catch {
        $answer.Text = "$_"
    }
    Write-FpSection -Name "$number" -Text $answer.Text.Replace("`r`n", "`n") -ExitCode $answer.ExitCode
}
