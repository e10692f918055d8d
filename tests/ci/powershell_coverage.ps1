# Finds what can be executed in PowerShell scripts. Each line of stdin is a file's path. Prints a line of JSON for each:
# its path, and of each statement its start and end in the text and the line where it begins. Of "if", "while", "switch"
# and the like, the conditions count, and of a function its body: a block is no statement of its own.
$ErrorActionPreference = 'Stop'
$language = 'System.Management.Automation.Language'

function Find-Start {
    # The parts of a statement that are executed as such.
    param($Statement)
    switch ($Statement.GetType().FullName.Substring($language.Length + 1)) {
        { $_ -in 'FunctionDefinitionAst', 'TryStatementAst', 'TrapStatementAst' } { return }
        'IfStatementAst' { foreach ($clause in $Statement.Clauses) { $clause.Item1 }; return }
        'ForStatementAst' { $Statement.Initializer; $Statement.Condition; return }
        { $_ -in 'SwitchStatementAst', 'ForEachStatementAst', 'WhileStatementAst', 'DoWhileStatementAst',
            'DoUntilStatementAst' } { return $Statement.Condition }
    }
    $Statement
}

while ($null -ne ($path = [System.Console]::In.ReadLine())) {
    $faults = $null
    $tree = [System.Management.Automation.Language.Parser]::ParseFile($path, [ref]$null, [ref]$faults)
    if ($faults) { throw "${path}: $($faults[0].Message)" }
    $found = $tree.FindAll({
            param($node)
            $block = $node.Parent
            $node -is [System.Management.Automation.Language.StatementAst] -and
            ($block -is [System.Management.Automation.Language.NamedBlockAst] -or
                ($block -is [System.Management.Automation.Language.StatementBlockAst] -and
                # what is in @(...) and $(...) belongs to the statement around it
                $block.Parent -isnot [System.Management.Automation.Language.ArrayExpressionAst] -and
                $block.Parent -isnot [System.Management.Automation.Language.SubExpressionAst]))
        }, $true)
    $starts = @(foreach ($statement in $found) {
        foreach ($part in Find-Start -Statement $statement) {
            , @($part.Extent.StartOffset, $part.Extent.EndOffset, $part.Extent.StartLineNumber)
        }
    })
    [System.Console]::Out.WriteLine((ConvertTo-Json -Compress -Depth 3 -InputObject @{
                path = $path; statements = $starts
            }))
}
