from tasks.rules.updates.selection import describe_server_products
from tests.unit.rules.examples import an_update


def test_a_plan_names_the_updates_of_server_products():
    updates = [
        an_update("KB5046365", title="Security Update for SQL Server 2019 RTM CU (KB5046365)"),
        an_update("KB5049233", title="Security Update For Exchange Server 2019 CU14 SU3 (KB5049233)"),
        an_update("KB5040711", title="Security update for Microsoft OLE DB Driver 19 for SQL Server (KB5040711)"),
        an_update("KB5001234", title="Update for SQL Server Management Studio (KB5001234)"),
        an_update("KB5068861", title="2025-11 Security Update (KB5068861) (26200.7171)"),
    ]
    sql, exchange = describe_server_products(updates)
    assert sql.startswith("updates of SQL Server: KB5046365; they may stop its services")
    assert exchange.startswith("updates of Exchange Server: KB5049233;")
    assert "exclude *Exchange Server* here" in exchange
    assert describe_server_products(updates[2:]) == ()
