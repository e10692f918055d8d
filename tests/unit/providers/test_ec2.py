"""How EC2 is opened, and what is sent to it."""

import pytest

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.machine import Machine
from inventory.machine_providers import ProviderKind, ProviderSettings
from tasks.domain.errors import ProviderError
from tasks.machines.providers import ec2
from tasks.machines.providers.aws import AwsProvider, open_aws
from tasks.machines.providers.registry import ProviderPorts, open_provider
from tests.support.fake_clock import FakeClock
from tests.support.provider_records import KeptRecords


def settings(**values: str) -> ProviderSettings:
    return ProviderSettings(name="cloud", kind=ProviderKind.AWS, region="eu-west-1", **values)  # type: ignore[arg-type]


def ports(credential: Credential | None = None) -> ProviderPorts:
    found = credential or Credential(CredentialKind.PASSWORD, secret=Secret("very-secret"))
    return ProviderPorts(FakeClock(), lambda _: pytest.fail("no connection is needed"), lambda _: found, KeptRecords())


def open_web(provider: str, given: ProviderSettings, given_ports: ProviderPorts) -> AwsProvider:
    return open_aws(given, Machine(name="web-1", address="web-1", provider=provider), given_ports)


def test_an_instance_is_opened_by_its_id_and_a_login() -> None:
    given = settings(user="AKIA0", credential="env:AWS")
    opened = open_provider(given, Machine(name="web-1", address="web-1", provider="cloud/i-0a"), ports())
    assert (opened.kind, opened.order_seconds) == ("aws", 900)
    assert "very-secret" not in repr(vars(open_web("cloud/i-0a", given, ports())))
    with pytest.raises(ProviderError, match="'web-1' is not the id of an instance"):
        open_web("cloud", given, ports())
    with pytest.raises(ProviderError, match="belong together"):
        open_web("cloud/i-0a", settings(user="AKIA0"), ports())
    with pytest.raises(ProviderError, match="is a agent, not a password"):
        open_web("cloud/i-0a", given, ports(Credential(CredentialKind.AGENT)))
    with pytest.raises(ProviderError, match="can't be asked"):
        open_web("cloud/i-0a", ProviderSettings(name="c", kind=ProviderKind.AWS, region="no region!"), ports())


def test_an_order_is_sent_once_though_aws_is_busy() -> None:
    client = ec2.open_client("eu-west-1", "AKIA0", Secret("very-secret"))
    assert client.meta.config.retries["total_max_attempts"] == 1


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def miss(_: str) -> None:
        raise ModuleNotFoundError("no", name="botocore")

    monkeypatch.setattr("tasks.machines.providers.registry.import_module", miss)
    with pytest.raises(ProviderError, match="the library botocore is not installed here") as caught:
        open_provider(settings(), Machine(name="web-1", address="web-1", provider="cloud/i-0a"), ports())
    assert "pip install 'fleetpatch[aws]'" in caught.value.hint
