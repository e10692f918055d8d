# Reports how Windows starts services, and whether they run. Parameter: services (list of names). Records: service_state
# for each (name, start: see services.ps1, and "" if Windows has no such service; status; late: its start is delayed;
# exit_code: null if it runs, or if that is not known). It changes nothing.
# Step: assess
# Changes: nothing
# Requires: services

$services = @{}
foreach ($service in Get-FpService) { $services[$service.Name] = $service }
$codes = Read-FpExitCodes
foreach ($name in @(Get-FpListParam 'services')) {
    $service = $services[$name]
    $record = [ordered]@{ name = $name; start = ''; status = ''; late = $false; exit_code = $codes[$name] }
    if ($null -ne $service) {
        $record.start = $service.Start
        $record.status = $service.Status
        $record.late = $service.IsLate
    }
    Write-FpRecord -Kind service_state -Fields $record
}
