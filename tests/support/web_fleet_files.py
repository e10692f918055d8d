"""The inventory and the configurations of the sample fleet (see web_fleet.py)."""

from pathlib import Path

LONG_NAME = "batch-" + "x" * 57 + ".with.a.very-long-host-name.in-the-data-centre.example.net"
HOSTILE_TAG = "<script>alert(document.domain)</script>"
HOSTILE_PLACE = '"><script>alert(document.domain)</script>'
ODD_PLACE = "rack 7-A / 50 % &amp; #1"

_FLEET = """\
defaults:
  user: patch
  credential: key:~/.ssh/id_ed25519
  zone: Europe/Berlin
  environment: prod
groups:
  web: {tags: {role: web, team: shop}}
  app: {tags: {role: app, team: shop}}
  db: {tags: {role: db, team: data}}
  windows:
    tags: {role: office, team: desk}
    transport: winrm
    user: 'EXAMPLE\\patch'
    credential: env:WINDOWS_PASSWORD
machines:
  - {name: "web-[01:02]", address: "10.20.1.[1:2]", groups: [web], location: berlin-a, tags: {ring: canary}}
  - {name: "web-[03:10]", address: "10.20.1.[3:10]", groups: [web], location: berlin-a, tags: {ring: broad}}
  - {name: "web-[11:16]", address: "10.20.1.[11:16]", groups: [web], location: berlin-b, tags: {ring: broad}}
  - {name: "app-[01:08]", address: "10.20.2.[1:8]", groups: [app], location: berlin-a, availability_zone: "1"}
  - {name: "app-[09:14]", address: "10.20.2.[9:14]", groups: [app], location: berlin-b, availability_zone: "2"}
  - {name: "db-[01:10].fra1.example.net", groups: [db], location: frankfurt, zone: UTC}
  - {name: "stage-web-[1:2]", address: "10.30.1.[1:2]", groups: [web], environment: stage, location: berlin-a}
  - {name: stage-db-1, address: 10.30.1.9, groups: [db], environment: stage, location: berlin-a}
  - {name: "rhel-[1:3]", address: "10.20.5.[1:3]", location: madrid, zone: Europe/Madrid, owner: managed}
  - {name: "suse-[1:2]", address: "10.20.6.[1:2]", location: tokyo, zone: Asia/Tokyo}
  - {name: "win-[1:3]", address: "win-[1:3].example.org", groups: [windows], location: new-york, zone: America/New_York}
  - {name: dev-1, address: 10.40.0.1, environment: dev, owner: os}
  - {name: dev-2, address: 10.40.0.2, environment: dev, owner: manual}
  - {name: fresh-1, address: 10.40.0.3, environment: dev, location: berlin-b}
"""

_CONFIGURATIONS = """\
automatic:
  scope: location=madrid
configurations:
  - name: production-weekly
    description: Web and application servers, after an approval.
    scope: env=prod,group=web|app
    updates: {classifications: [Critical, Security], exclude: ["docker*"]}
    window: {start: 2026-01-02 02:00, length: 2h, zone: Europe/Berlin, recurrence: Week Friday}
    lead: 4h
    waves: {canary_count: 2, percent: 25, at_once: 10}
    approval: {required: true, not_by_starter: true}
    freezes:
      - {date: 2026-12-25, reason: "Christmas <b>closing</b> & inventory"}
  - name: databases-monthly
    description: The week after Patch Tuesday.
    scope: env=prod,group=db
    maintenance: {hold: 35 days, not_held: [Critical]}
    window: {start: 2026-01-20 22:00, length: 3h, zone: UTC, recurrence: Month Second Tuesday Offset7}
    waves: {percent: 20, at_once: 2}
  - name: databases-again
    description: Overlaps with databases-monthly.
    scope: env=prod,name=db-0*
    window: {start: 2026-01-20 23:00, length: 1h, zone: UTC, recurrence: Month Second Tuesday Offset7}
  - name: around-the-world
    description: Each machine by its own clock.
    scope: env=prod,location=tokyo|new-york
    window: {start: 2026-01-04 03:00, length: 90, zone: machine, recurrence: Week Sunday}
  - name: staging-daily
    scope: env=stage
    window: {start: 2026-11-01 12:30, length: 1h, zone: Europe/Berlin, recurrence: Day}
  - name: old-windows
    enabled: false
    description: Nobody uses it any more.
    scope: group=windows
    window: {start: 2026-01-03 01:00, length: 4h, zone: W. Europe Standard Time, recurrence: Week Saturday}
freezes:
  - {start: 2026-12-19, end: 2027-01-06, reason: year-end closing}
"""


_COMPONENTS = f"""\
canary_locations: [madrid]
components:
  - name: node_exporter
    kind: file
    system: linux
    version: {{command: node_exporter --version, pattern: 'version ([0-9.]+)'}}
    install: install -m 755 "$FLEETPATCH_FILE" /usr/local/bin/node_exporter
    versions:
      - {{version: 1.8.2, url: "https://packages.example.org/node_exporter-1.8.2", sha256: {"a" * 64}}}
      - {{version: 1.9.1, url: "https://packages.example.org/node_exporter-1.9.1", sha256: {"b" * 64}}}
  - name: {"backup-agent-" * 7}
    kind: package
    after: [node_exporter]
    versions: [{{version: 5.1.0-1}}, {{version: 5.1.2-1, withdrawn: 'it loses <b>files</b>'}}]
"""


def write_files(place: Path, *, hostile: bool) -> None:
    """Write fleet.yaml, components.yaml and configurations into a folder, with hostile texts or without."""
    odd = (
        f"  - {{name: {LONG_NAME}, address: 10.40.0.4, environment: dev}}\n"
        f"  - name: odd-1\n    address: 10.40.0.5\n    environment: '{HOSTILE_TAG}'\n"
        f"    location: '{HOSTILE_PLACE}'\n    tags: {{note: '{HOSTILE_TAG}', 'a/b.c': '50 %'}}\n"
        f"  - {{name: odd-2, address: 10.40.0.6, environment: dev, location: '{ODD_PLACE}'}}\n"
    )
    (place / "fleet.yaml").write_text(_FLEET + (odd if hostile else ""), encoding="utf-8")
    (place / "components.yaml").write_text(_COMPONENTS, encoding="utf-8")
    folder = place / "configurations"
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text(_CONFIGURATIONS, encoding="utf-8")
