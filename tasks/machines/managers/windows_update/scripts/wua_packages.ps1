# Tells which packages of the component store belong to updates. Changes nothing.
# Parameters: kbs (list of KB numbers). Records: package (kb, name, state); packages_error (hresult, message) if the
# store could not be asked.
# Step: install
# Changes: nothing
# Requires: servicing_packages

try {
    foreach ($package in @(Find-FpPackages @(Get-FpListParam 'kbs'))) {
        Write-FpRecord 'package' ([ordered]@{ kb = $package.Kb; name = $package.Name; state = $package.State })
    }
} catch {
    Write-FpRecord 'packages_error' ([ordered]@{ hresult = (Get-FpHResult $_); message = (Get-FpErrorMessage $_) })
}
