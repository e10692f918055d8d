# ruff: noqa: S608 - the statements are made of constants
"""The tables of Azure Resource Graph for Azure Update Manager, as views over the tables of the records.

The names of tables, columns, types and properties are those of Azure's documentation. ``properties`` is a STRUCT, so
that ``properties.status`` works as it does in Azure. Ids have Azure's form, so that what splits them works: the
subscription is "fleetpatch", the resource group is the machine's environment.
"""

from collections.abc import Mapping
from typing import Final

_RESOURCE = """'/subscriptions/fleetpatch/resourceGroups/' || coalesce(nullif(m.environment, ''), 'none')
    || '/providers/Microsoft.Compute/virtualMachines/' || {name}"""
_CONFIGURATION = """'/subscriptions/fleetpatch/resourceGroups/none/providers/Microsoft.Maintenance'
    || '/maintenanceConfigurations/' || {name}"""
_COMMON = """NULL::VARCHAR AS tenantId, NULL::VARCHAR AS kind, m.location AS location,
    coalesce(nullif(m.environment, ''), 'none') AS resourceGroup, 'fleetpatch' AS subscriptionId"""
_OS_TYPE = """CASE WHEN m.os_family = 'windows' OR m.manager LIKE 'windows%' THEN 'Windows'
    WHEN coalesce(m.os_family, nullif(m.manager, '')) IS NOT NULL THEN 'Linux' END"""
_SERVICE = """CASE WHEN m.manager IN ('dnf', 'dnf5', 'yum') THEN 'YUM' WHEN m.manager = 'zypper' THEN 'Zypper'
    WHEN m.manager LIKE 'windows%' THEN 'WU-WSUS' ELSE upper(nullif(m.manager, '')) END"""
_STARTED_BY = """CASE WHEN r.started_by = '' OR r.started_by LIKE 'the schedule of %'
    OR r.started_by LIKE 'automatic patching%' OR r.started_by LIKE 'maintenance control%' THEN 'Platform'
    ELSE 'User' END"""
_CATEGORY = "CASE classification WHEN 'Security-ESM' THEN 'Security' WHEN 'Unclassified' THEN 'Other' ELSE {each} END"
_TAIL = "NULL::MAP(VARCHAR, VARCHAR) AS sku, m.tags AS tags"

_CATEGORY_FIELDS: Final = {
    "Critical": "critical",
    "Security": "security",
    "UpdateRollup": "updateRollup",
    "FeaturePack": "featurePack",
    "ServicePack": "servicePack",
    "Definition": "definition",
    "Tools": "tools",
    "Updates": "updates",
    "Other": "other",
}
"""The fields of Azure's ``availablePatchCountByClassification``, by classification."""
_COUNTS = ", ".join(
    f"count(*) FILTER (category = '{category}') AS \"{field}\"" for category, field in _CATEGORY_FIELDS.items()
)
_COUNT_STRUCT = ", ".join(f'"{each}" := coalesce(c."{each}", 0)' for each in _CATEGORY_FIELDS.values())
_NO_COUNTS = "STRUCT(" + ", ".join(f'"{each}" BIGINT' for each in _CATEGORY_FIELDS.values()) + ")"

_ERROR = "CASE WHEN {kind} <> '' THEN struct_pack(code := {kind}, message := {text}) END"

_ASSESSMENTS: Final = f"""
CREATE VIEW patchassessmentresources AS
WITH counted AS (
    SELECT machine, {_COUNTS}
    FROM (SELECT machine, {_CATEGORY.format(each="classification")} AS category FROM updates)
    GROUP BY machine
)
SELECT
    {_RESOURCE.format(name="m.name")} || '/patchAssessmentResults/latest' AS id,
    m.run_id AS name,
    'microsoft.compute/virtualmachines/patchassessmentresults' AS type,
    {_COMMON},
    {_TAIL},
    struct_pack(
        status := CASE WHEN m.error_kind <> '' THEN 'Failed' ELSE 'Succeeded' END,
        rebootPending := CASE m.reboot WHEN 'yes' THEN true WHEN 'no' THEN false END,
        patchServiceUsed := {_SERVICE},
        osType := {_OS_TYPE},
        startDateTime := m.tried_at,
        lastModifiedDateTime := coalesce(m.answered_at, m.tried_at),
        startedBy := NULL::VARCHAR,
        errorDetails := {_ERROR.format(kind="m.error_kind", text="m.error_message")},
        availablePatchCountByClassification :=
            CASE WHEN m.answered_at IS NOT NULL THEN struct_pack({_COUNT_STRUCT}) END,
        patchName := NULL::VARCHAR,
        version := NULL::VARCHAR,
        kbId := NULL::VARCHAR,
        classifications := NULL::VARCHAR[],
        publishedDateTime := NULL::TIMESTAMPTZ,
        rebootRequired := NULL::BOOLEAN,
        rebootBehavior := NULL::VARCHAR
    ) AS properties
FROM machines m LEFT JOIN counted c ON c.machine = m.name
WHERE m.tried_at IS NOT NULL
UNION ALL
SELECT
    {_RESOURCE.format(name="u.machine")} || '/patchAssessmentResults/latest/softwarePatches/' || u.update_id AS id,
    u.update_id AS name,
    'microsoft.compute/virtualmachines/patchassessmentresults/softwarepatches' AS type,
    {_COMMON},
    {_TAIL},
    struct_pack(
        status := NULL::VARCHAR,
        rebootPending := NULL::BOOLEAN,
        patchServiceUsed := NULL::VARCHAR,
        osType := {_OS_TYPE},
        startDateTime := NULL::TIMESTAMPTZ,
        lastModifiedDateTime := u.assessed_at,
        startedBy := NULL::VARCHAR,
        errorDetails := NULL::STRUCT(code VARCHAR, message VARCHAR),
        availablePatchCountByClassification := NULL::{_NO_COUNTS},
        patchName := u.name,
        version := CASE WHEN u.kb = '' THEN u.available END,
        kbId := nullif(u.kb, ''),
        classifications := [{_CATEGORY.format(each="u.classification")}],
        publishedDateTime := u.published,
        rebootRequired := NULL::BOOLEAN,
        rebootBehavior := NULL::VARCHAR
    ) AS properties
FROM updates u LEFT JOIN machines m ON m.name = u.machine
"""

_INSTALLATIONS: Final = f"""
CREATE VIEW patchinstallationresources AS
SELECT
    {_RESOURCE.format(name="o.machine")} || '/patchInstallationResults/' || o.run_id AS id,
    o.run_id AS name,
    'microsoft.compute/virtualmachines/patchinstallationresults' AS type,
    {_COMMON},
    {_TAIL},
    struct_pack(
        installationActivityId := o.run_id,
        maintenanceWindowExceeded := o.window_exceeded_seconds > 0,
        status := o.state,
        rebootStatus := o.reboot,
        installedPatchCount := o.updates_installed,
        failedPatchCount := o.updates_failed + o.updates_setup_failed,
        pendingPatchCount := o.updates_pending + o.updates_blocked,
        excludedPatchCount := o.updates_excluded,
        notSelectedPatchCount := o.updates_not_selected,
        startDateTime := o.started_at,
        lastModifiedDateTime := coalesce(o.ended_at, o.started_at, r.started_at),
        startedBy := {_STARTED_BY},
        patchServiceUsed := {_SERVICE},
        osType := {_OS_TYPE},
        errorDetails := {_ERROR.format(kind="o.error_kind", text="o.reason")},
        maintenanceRunId := r.run_id,
        installationState := NULL::VARCHAR,
        patchName := NULL::VARCHAR,
        version := NULL::VARCHAR,
        kbId := NULL::VARCHAR,
        classifications := NULL::VARCHAR[],
        publishedDateTime := NULL::TIMESTAMPTZ,
        rebootRequired := NULL::BOOLEAN,
        rebootBehavior := NULL::VARCHAR
    ) AS properties
FROM outcomes o JOIN runs r ON r.run_id = o.run_id AND r.kind = 'patch' LEFT JOIN machines m ON m.name = o.machine
UNION ALL
SELECT
    {_RESOURCE.format(name="u.machine")} || '/patchInstallationResults/' || u.run_id || '/softwarePatches/'
        || u.update_id AS id,
    u.update_id AS name,
    'microsoft.compute/virtualmachines/patchinstallationresults/softwarepatches' AS type,
    {_COMMON},
    {_TAIL},
    struct_pack(
        installationActivityId := u.run_id,
        maintenanceWindowExceeded := NULL::BOOLEAN,
        status := NULL::VARCHAR,
        rebootStatus := NULL::VARCHAR,
        installedPatchCount := NULL::BIGINT,
        failedPatchCount := NULL::BIGINT,
        pendingPatchCount := NULL::BIGINT,
        excludedPatchCount := NULL::BIGINT,
        notSelectedPatchCount := NULL::BIGINT,
        startDateTime := NULL::TIMESTAMPTZ,
        lastModifiedDateTime := coalesce(o.ended_at, o.started_at, r.started_at),
        startedBy := NULL::VARCHAR,
        patchServiceUsed := NULL::VARCHAR,
        osType := {_OS_TYPE},
        errorDetails := CASE WHEN u.state = 'Failed' THEN struct_pack(code := 'Failed', message := u.reason) END,
        maintenanceRunId := r.run_id,
        installationState := CASE u.state WHEN 'NotAttempted' THEN 'Pending' ELSE u.state END,
        patchName := u.name,
        version := CASE WHEN u.kb = '' THEN u.available END,
        kbId := nullif(u.kb, ''),
        classifications := [{_CATEGORY.format(each="u.classification")}],
        publishedDateTime := NULL::TIMESTAMPTZ,
        rebootRequired := NULL::BOOLEAN,
        rebootBehavior := NULL::VARCHAR
    ) AS properties
FROM update_results u
    JOIN runs r ON r.run_id = u.run_id AND r.kind = 'patch'
    JOIN outcomes o ON o.run_id = u.run_id AND o.machine = u.machine
    LEFT JOIN machines m ON m.name = u.machine
"""

_MAINTENANCE: Final = f"""
CREATE VIEW maintenanceresources AS
SELECT
    {_RESOURCE.format(name="o.machine")} || '/providers/Microsoft.Maintenance/applyUpdates/' || o.run_id AS id,
    o.run_id AS name,
    'microsoft.maintenance/applyupdates' AS type,
    {_COMMON},
    {_TAIL},
    struct_pack(
        maintenanceConfigurationId := {_CONFIGURATION.format(name="r.configuration")},
        maintenanceScope := 'InGuestPatch',
        resourceId := {_RESOURCE.format(name="o.machine")},
        correlationId := r.run_id,
        startDateTime := coalesce(o.started_at, r.started_at),
        endDateTime := o.ended_at,
        status := o.state,
        impactType := NULL::VARCHAR,
        notBefore := NULL::TIMESTAMPTZ
    ) AS properties
FROM outcomes o
    JOIN runs r ON r.run_id = o.run_id AND r.kind = 'patch' AND r.configuration IS NOT NULL
    LEFT JOIN machines m ON m.name = o.machine
UNION ALL
SELECT
    {_RESOURCE.format(name="a.machine")} || '/providers/Microsoft.Maintenance/configurationAssignments/'
        || a.configuration AS id,
    a.configuration AS name,
    'microsoft.maintenance/configurationassignments' AS type,
    {_COMMON},
    {_TAIL},
    struct_pack(
        maintenanceConfigurationId := {_CONFIGURATION.format(name="a.configuration")},
        maintenanceScope := 'InGuestPatch',
        resourceId := {_RESOURCE.format(name="a.machine")},
        correlationId := NULL::VARCHAR,
        startDateTime := NULL::TIMESTAMPTZ,
        endDateTime := NULL::TIMESTAMPTZ,
        status := NULL::VARCHAR,
        impactType := NULL::VARCHAR,
        notBefore := NULL::TIMESTAMPTZ
    ) AS properties
FROM assignments a LEFT JOIN machines m ON m.name = a.machine
UNION ALL
SELECT
    {_CONFIGURATION.format(name="h.configuration")} || '/updates/' || h.name AS id,
    h.name AS name,
    'microsoft.maintenance/updates' AS type,
    NULL::VARCHAR AS tenantId, NULL::VARCHAR AS kind, NULL::VARCHAR AS location, 'none' AS resourceGroup,
    'fleetpatch' AS subscriptionId,
    NULL::MAP(VARCHAR, VARCHAR) AS sku, NULL::MAP(VARCHAR, VARCHAR) AS tags,
    struct_pack(
        maintenanceConfigurationId := {_CONFIGURATION.format(name="h.configuration")},
        maintenanceScope := h.maintenance_scope,
        resourceId := h.name,
        correlationId := h.run_id,
        startDateTime := h.first_seen,
        endDateTime := h.ended_at,
        status := h.status,
        impactType := h.impact,
        notBefore := h.not_before
    ) AS properties
FROM held_packages h
"""

VIEWS: Final[Mapping[str, str]] = {
    "patchassessmentresources": _ASSESSMENTS,
    "patchinstallationresources": _INSTALLATIONS,
    "maintenanceresources": _MAINTENANCE,
}
"""The statement that creates each view."""

SOURCES: Final[Mapping[str, frozenset[str]]] = {
    "patchassessmentresources": frozenset({"machines", "updates"}),
    "patchinstallationresources": frozenset({"machines", "runs", "outcomes", "update_results"}),
    "maintenanceresources": frozenset({"machines", "runs", "outcomes", "assignments", "held_packages"}),
}
"""The tables that each view reads."""
