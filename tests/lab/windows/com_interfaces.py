"""The members of COM interfaces, as their documentation and headers (wuapi.h, taskschd.h) name them.

A name with ``=`` can be set. An interface has those of the one it extends (IUpdate2 those of IUpdate).
"""

INTERFACES = {
    "IAction": "Id= Type",
    "IActionCollection": "Count Item XmlText= Create Remove Clear Context=",
    "IAutomaticUpdates": "DetectNow Pause Resume ShowSettingsDialog Settings ServiceEnabled EnableService",
    "IAutomaticUpdates2": "Results",
    "IAutomaticUpdatesResults": "LastSearchSuccessDate LastInstallationSuccessDate",
    "IAutomaticUpdatesSettings": (
        "NotificationLevel= ReadOnly Required ScheduledInstallationDay= ScheduledInstallationTime= Refresh Save"
    ),
    "IAutomaticUpdatesSettings2": "IncludeRecommendedUpdates= CheckPermission",
    "IAutomaticUpdatesSettings3": "NonAdministratorsElevated= FeaturedUpdatesEnabled=",
    "ICategory": "Name CategoryID Children Description Image Order Parent Type Updates",
    "ICategoryCollection": "Item Count",
    "IDownloadResult": "HResult ResultCode GetUpdateResult",
    "IExecAction": "Path= Arguments= WorkingDirectory=",
    "IIdleSettings": "IdleDuration= WaitTimeout= StopOnIdleEnd= RestartOnIdle=",
    "IInstallationBehavior": "CanRequestUserInput Impact RebootBehavior RequiresNetworkConnectivity",
    "IInstallationResult": "HResult RebootRequired ResultCode GetUpdateResult",
    "IPrincipal": "Id= DisplayName= UserId= LogonType= GroupId= RunLevel=",
    "IRegisteredTask": (
        "Name Path State Enabled= Run RunEx GetInstances LastRunTime LastTaskResult NumberOfMissedRuns "
        "NextRunTime Definition Xml GetSecurityDescriptor SetSecurityDescriptor Stop GetRunTimes"
    ),
    "IRegisteredTaskCollection": "Count Item",
    "IRegistrationInfo": (
        "Description= Author= Version= Date= Documentation= XmlText= URI= SecurityDescriptor= Source="
    ),
    "IRunningTask": "Name InstanceGuid Path State CurrentAction Stop Refresh EnginePID",
    "IRunningTaskCollection": "Count Item",
    "ISearchResult": "ResultCode RootCategories Updates Warnings",
    "IStringCollection": "Item= Count ReadOnly Add Clear Copy Insert RemoveAt",
    "ISystemInformation": "OemHardwareSupportLink RebootRequired",
    "ITaskDefinition": "RegistrationInfo= Triggers= Settings= Data= Principal= Actions= XmlText=",
    "ITaskFolder": (
        "Name Path GetFolder GetFolders CreateFolder DeleteFolder GetTask GetTasks DeleteTask RegisterTask "
        "RegisterTaskDefinition GetSecurityDescriptor SetSecurityDescriptor"
    ),
    "ITaskService": (
        "GetFolder GetRunningTasks NewTask Connect Connected TargetServer ConnectedUser ConnectedDomain HighestVersion"
    ),
    "ITaskSettings": (
        "AllowDemandStart= RestartInterval= RestartCount= MultipleInstances= StopIfGoingOnBatteries= "
        "DisallowStartIfOnBatteries= AllowHardTerminate= StartWhenAvailable= XmlText= RunOnlyIfNetworkAvailable= "
        "ExecutionTimeLimit= Enabled= DeleteExpiredTaskAfter= Priority= Compatibility= Hidden= IdleSettings= "
        "RunOnlyIfIdle= WakeToRun= NetworkSettings="
    ),
    "ITimeTrigger": "RandomDelay=",
    "ITrigger": "Type Id= Repetition= ExecutionTimeLimit= StartBoundary= EndBoundary= Enabled=",
    "ITriggerCollection": "Count Item Create Remove Clear",
    "IUpdate": (
        "Title AutoSelectOnWebSites BundledUpdates CanRequireSource Categories Deadline "
        "DeltaCompressedContentAvailable DeltaCompressedContentPreferred Description EulaAccepted EulaText "
        "HandlerID Identity Image InstallationBehavior IsBeta IsDownloaded IsHidden= IsInstalled IsMandatory "
        "IsUninstallable Languages LastDeploymentChangeTime MaxDownloadSize MinDownloadSize MoreInfoUrls "
        "MsrcSeverity RecommendedCpuSpeed RecommendedHardDiskSpace RecommendedMemory ReleaseNotes "
        "SecurityBulletinIDs SupersededUpdateIDs SupportUrl Type UninstallationNotes UninstallationBehavior "
        "UninstallationSteps KBArticleIDs AcceptEula DeploymentAction CopyFromCache DownloadPriority "
        "DownloadContents"
    ),
    "IUpdate2": "RebootRequired IsPresent CveIDs CopyToCache",
    "IUpdate3": "BrowseOnly",
    "IUpdate4": "PerUser",
    "IUpdate5": "AutoSelection AutoDownload",
    "IUpdateCollection": "Item= Count ReadOnly Add Clear Copy Insert RemoveAt",
    "IUpdateDownloadResult": "HResult ResultCode",
    "IUpdateDownloader": "ClientApplicationID= IsForced= Priority= Updates= BeginDownload Download EndDownload",
    "IUpdateException": "Message HResult Context",
    "IUpdateExceptionCollection": "Item Count",
    "IUpdateHistoryEntry": (
        "Operation ResultCode HResult Date UpdateIdentity Title Description UnmappedResultCode "
        "ClientApplicationID ServerSelection ServiceID UninstallationSteps UninstallationNotes SupportUrl"
    ),
    "IUpdateHistoryEntry2": "Categories",
    "IUpdateHistoryEntryCollection": "Item Count",
    "IUpdateIdentity": "RevisionNumber UpdateID",
    "IUpdateInstallationResult": "HResult RebootRequired ResultCode",
    "IUpdateInstaller": (
        "ClientApplicationID= IsForced= ParentHwnd= ParentWindow= Updates= BeginInstall BeginUninstall EndInstall "
        "EndUninstall Install RunWizard IsBusy Uninstall AllowSourcePrompts= RebootRequiredBeforeInstallation"
    ),
    "IUpdateInstaller2": "ForceQuiet=",
    "IUpdateInstaller3": "AttemptCloseAppsIfNecessary=",
    "IUpdateInstaller4": "Commit",
    "IUpdateSearcher": (
        "CanAutomaticallyUpgradeService= ClientApplicationID= IncludePotentiallySupersededUpdates= "
        "ServerSelection= BeginSearch EndSearch EscapeString QueryHistory Search Online= GetTotalHistoryCount "
        "ServiceID="
    ),
    "IUpdateSearcher2": "IgnoreDownloadPriority=",
    "IUpdateSearcher3": "SearchScope=",
    "IUpdateService": (
        "Name ContentValidationCert ExpirationDate IsManaged IsRegisteredWithAU IssueDate OffersWindowsUpdates "
        "RedirectUrls ServiceID IsScanPackageService CanRegisterWithAU ServiceUrl SetupPrefix"
    ),
    "IUpdateService2": "IsDefaultAUService",
    "IUpdateServiceCollection": "Item Count",
    "IUpdateServiceManager": (
        "Services AddService RegisterServiceWithAU RemoveService UnregisterServiceWithAU AddScanPackageService "
        "SetOption"
    ),
    "IUpdateServiceManager2": "ClientApplicationID= QueryServiceRegistration AddService2",
    "IUpdateSession": (
        "ClientApplicationID= ReadOnly WebProxy= CreateUpdateSearcher CreateUpdateDownloader CreateUpdateInstaller"
    ),
    "IUpdateSession2": "UserLocale=",
    "IUpdateSession3": "CreateUpdateServiceManager QueryHistory",
    "IWindowsUpdateAgentInfo": "GetInfo",
}
