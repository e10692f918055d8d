# Tells who this machine is, as its hypervisor or its cloud also knows it. Changes nothing.
# Records: machine (uuid, asset_tag: always empty), card (mac; one for each network card).
# Step: provider
# Changes: nothing

$question = @{ OperationTimeoutSec = 20; ErrorAction = 'Stop' }
foreach ($product in @(Get-CimInstance -ClassName Win32_ComputerSystemProduct @question)) {
    Write-FpRecord -Kind machine -Fields @{ uuid = "$($product.UUID)"; asset_tag = '' }
}
foreach ($card in @(Get-CimInstance -ClassName Win32_NetworkAdapter -Filter 'PhysicalAdapter=TRUE' @question)) {
    if ($card.MACAddress) { Write-FpRecord -Kind card -Fields @{ mac = "$($card.MACAddress)" } }
}
