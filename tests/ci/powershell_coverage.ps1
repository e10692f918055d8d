# Finds what can be executed in PowerShell scripts. Each line of stdin is a file's path. Prints a line of JSON for each:
# its path, and of each statement the offset in the text and the line where it begins. A block has no statement of its
# own: of "if", "while", "switch" and the like, the conditions count; of a function, its body.
$ErrorActionPreference = 'Stop'
$language = 'System.Management.Automation.Language'

function Find-Start {
    # The parts of a statement that PowerShell reports when it executes them.
    param($Statement)
    switch ($Statement.GetType().FullName.Substring($language.Length + 1)) {
        { $_ -in 'FunctionDefinitionAst', 'TryStatementAst', 'TrapStatementAst' } { return }
        'IfStatementAst' { foreach ($clause in $Statement.Clauses) { $clause.Item1 }; return }
        'ForStatementAst' { $Statement.Initializer; $Statement.Condition; return }
        { $_ -in 'SwitchStatementAst', 'ForEachStatementAst', 'WhileStatementAst', 'DoWhileStatementAst',
            'DoUntilStatementAst' } { return $Statement.Condition }
        'ReturnStatementAst' { if ($null -ne $Statement.Pipeline) { return $Statement.Pipeline } }
    }
    $Statement
}

while ($null -ne ($path = [System.Console]::In.ReadLine())) {
    $faults = $null
    $tree = [System.Management.Automation.Language.Parser]::ParseFile($path, [ref]$null, [ref]$faults)
    if ($faults) { throw "${path}: $($faults[0].Message)" }
    $found = $tree.FindAll({
            param($node)
            $node -is [System.Management.Automation.Language.StatementAst] -and
            ($node.Parent -is [System.Management.Automation.Language.StatementBlockAst] -or
                $node.Parent -is [System.Management.Automation.Language.NamedBlockAst])
        }, $true)
    $starts = @(foreach ($statement in $found) {
        foreach ($part in Find-Start -Statement $statement) {
            , @($part.Extent.StartOffset, $part.Extent.StartLineNumber)
        }
    })
    [System.Console]::Out.WriteLine((ConvertTo-Json -Compress -Depth 3 -InputObject @{
                path = $path; statements = $starts
            }))
}
