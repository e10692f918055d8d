# Compiles the stand-ins into one assembly, since Add-Type takes seconds: compile.ps1 <sources> <assembly>
param([Parameter(Mandatory = $true)][string] $Sources, [Parameter(Mandatory = $true)][string] $Assembly)
$ErrorActionPreference = 'Stop'
$files = @(Get-ChildItem -LiteralPath $Sources -Filter '*.cs' | ForEach-Object { $_.FullName } | Sort-Object)
$options = '-langversion:latest', '-optimize+', '-nowarn:1701,1702'
Add-Type -Path $files -OutputAssembly $Assembly -OutputType Library -CompilerOptions $options
