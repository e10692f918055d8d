"""Tests that are played before a release (`make soak`), not at each change, and what is played at each change instead.

`pytest --release also` plays them too. Cases of faults have a list of their own (tests/faults/on_machines.py).
"""

from collections.abc import Mapping
from typing import Final

RELEASE_TESTS: Final[Mapping[str, str]] = {
    "tests/lab/test_automatic.py::": (
        "The same phases, frozen versions and stops with a real Prefect server and simulated machines: "
        "tests/flows/test_automatic.py; a year of them: tests/unit/rules/automatic/test_simulated_year.py. On a "
        "machine it is a run as any other: tests/lab/test_patch.py."
    ),
    "tests/lab/test_scheduled.py::": (
        "A worker that was down, and what is left of its window, with simulated machines: tests/flows/test_missed.py "
        "and tests/flows/test_windowed.py. The end of a window on real machines: tests/faults/test_on_machines.py."
    ),
    "tests/lab/test_windows_kept.py::": (
        "With simulated machines and a Prefect server: windows that were claimed or missed, frozen ones, those that "
        "Prefect cancels (tests/flows/test_windowed.py, tests/flows/test_missed.py, "
        "tests/flows/test_freezes_declared_later.py), a quick run (tests/flows/test_person_runs.py), an approval "
        "(tests/flows/test_approval.py). A download that meets a run: tests/faults/test_preempted_downloads.py, and "
        "with the machine's script tests/contract/test_preempted_downloads.py."
    ),
    "tests/lab/test_losing_parts.py::": (
        "Prefect's server away, killed, or without its database: tests/flows/test_prefect_away.py and "
        "tests/flows/test_web_killed.py; a killed worker: tests/flows/test_reconcile_served.py; a killed controller on "
        "real machines: tests/lab/test_resume.py and tests/faults/test_on_machines.py."
    ),
    "tests/lab/test_sites_apart.py::": (
        "Two sites with real machines, a cut line and kills: tests/lab/test_sites_cut.py; budgets, sets and a site "
        "that stays away, simulated: tests/faults/test_simulated.py and tests/unit/engine/test_shard_recovery.py."
    ),
    "tests/flows/test_two_sites_served.py::": (
        "The same kills on real machines, with links, PostgreSQL and Redis: tests/lab/test_sites_cut.py; a worker of "
        "another site: tests/unit/engine/test_sites.py; versions at each site: tests/unit/deployments/test_sites.py."
    ),
    "tests/lab/test_pages.py::": (
        "A run that is followed in a browser, with simulated machines: tests/flows/test_web_acts.py and "
        "tests/flows/test_web_killed.py; each page in a browser: tests/contract/web/test_browser_pages.py."
    ),
    "tests/lab/test_demo.py::test_the_demonstration_ends_well": (
        "What it does: the command with Prefect patches a machine of each family: "
        "tests/lab/test_repository_secrets.py; a security update with dnf asks for a reboot: tests/lab/test_dnf.py; "
        "pages show runs: tests/flows/test_web_acts.py. How it judges that: tests/lab/test_demo.py."
    ),
    "tests/lab/test_mixed_fleet.py::": (
        "Machines of all Linux families in one run: tests/lab/test_repository_secrets.py; of Windows alone: "
        "tests/lab/windows."
    ),
    "tests/lab/test_clusters_disturbed.py::test_controllers_killed_in_a_reboot_and_in_a_switchover_cost": (
        "A killed switchover: tests/lab/test_cluster_examples.py; a controller killed in a reboot: "
        "tests/faults/test_on_machines.py; the slots of a set under kills: tests/contract/test_set_slots_contract.py."
    ),
    "tests/lab/test_clusters_disturbed.py::test_when_a_member_never_comes_back_no_other_is_touched": (
        "A machine that never comes back: tests/faults/test_on_machines.py; what its set does then: "
        "tests/unit/engine/test_set_faults.py and tests/unit/engine/test_set_members_left.py."
    ),
    "tests/lab/test_clusters_disturbed.py::test_two_runs_that_meet_in_a_set": (
        "Two processes that ask for places in a set at the same time, with the records of SQLite and PostgreSQL: "
        "tests/contract/test_set_slots_contract.py; runs that meet, simulated: tests/unit/engine/test_set_faults.py."
    ),
    "tests/lab/windows/test_patching_broken.py::test_winrm_that_restarts_in_an_installation_is_no_fault": (
        "A connection that is lost in an installation, the engine being the same: tests/faults/test_on_machines.py; "
        "what WinRM answers then: tests/contract/winrm/test_faults.py."
    ),
    "tests/lab/windows/test_patching_broken.py::test_a_machine_that_never_comes_back_is_told": (
        "The same on Linux: tests/faults/test_on_machines.py; the proof of a boot of Windows: "
        "tests/contract/windows/test_reboot.py."
    ),
    "tests/lab/test_clusters.py::test_no_row_is_lost": (
        "A switchover of PostgreSQL, killed in the middle: tests/lab/test_cluster_examples.py; a set that is patched "
        "and rebooted behind HAProxy: tests/lab/test_clusters.py."
    ),
    "tests/contract/windows/test_patch.py::test_one_update_that_fails_does_not_keep_the_others_back": (
        "The same over WinRM, with the cause by its name: tests/lab/windows/test_patching.py; the job's own words: "
        "tests/contract/windows/test_update_job.py."
    ),
    "tests/lab/windows/test_patching_windows.py::": (
        "Whole runs on Windows machines of the tests: tests/lab/windows/test_patching.py and "
        "tests/contract/windows/test_patch.py; the end of a window there: tests/contract/windows/test_update_job.py."
    ),
    "tests/lab/test_resume.py::test_killed_at_a_random_moment_it_ends_as_undisturbed": (
        "`make soak` has twenty random kills (tests/lab/kill_and_resume.py). Kills at chosen moments: the other tests "
        "of the file and tests/faults/test_on_machines.py; between any two calls: tests/faults/test_killed_anywhere.py."
    ),
    "tests/lab/test_units.py::test_a_mount_that_failed_at_the_boot_and_the_service_behind_it_are_told[dnf]": (
        "The same with apt: tests/lab/test_units.py. One script asks systemd on all machines (unit_states.sh)."
    ),
    "tests/lab/test_units.py::test_a_mount_that_failed_at_the_boot_and_the_service_behind_it_are_told[zypper]": (
        "As above: tests/lab/test_units.py."
    ),
    "tests/lab/test_settling.py::test_what_breaks_after_the_update_fails_its_machine_and_opens_no_wave[dnf]": (
        "The same with apt: tests/lab/test_settling.py. One script asks systemd on all machines (facts.sh), and the "
        "judgement is that of tests/unit/rules/test_units.py."
    ),
    "tests/lab/test_settling.py::test_what_breaks_after_the_update_fails_its_machine_and_opens_no_wave[zypper]": (
        "As above: tests/lab/test_settling.py."
    ),
    "tests/lab/test_culprits.py::test_only_culprits_and_what_needs_them_are_left_out[dnf]": (
        "The search among 90 updates with apt, and a smaller one with dnf: tests/lab/test_culprits.py. How "
        "many questions it asks: tests/unit/rules/test_culprit_search.py; what each package manager answers: "
        "tests/contract/manager_contract.py."
    ),
    "tests/lab/test_culprits.py::test_only_culprits_and_what_needs_them_are_left_out[zypper]": (
        "As above: tests/lab/test_culprits.py."
    ),
    "tests/lab/test_culprits.py::test_what_needs_a_culprit_that_nobody_selected_is_left_out[apt]": (
        "The same with dnf, and a larger search with apt: tests/lab/test_culprits.py."
    ),
    "tests/lab/test_culprits.py::test_what_needs_a_culprit_that_nobody_selected_is_left_out[zypper]": (
        "As above. What zypper answers to the questions of a search: tests/contract/manager_contract.py."
    ),
    "tests/lab/test_lock_patience.py::test_a_lock_is_waited_for_and_the_wait_is_told[apt]": (
        "The same with dnf: tests/lab/test_lock_patience.py; a lock of apt that outlasts the window: "
        "tests/faults/test_on_machines.py; how long a job tries: tests/contract/test_apt_job_script.py."
    ),
    "tests/lab/test_lock_patience.py::test_a_lock_is_waited_for_and_the_wait_is_told[zypper]": (
        "The same with dnf: tests/lab/test_lock_patience.py; zypper waits for an administrator: "
        "tests/lab/test_zypper.py."
    ),
    "tests/lab/test_proxies.py::test_questions_and_jobs_use_the_same_proxy[dnf-in_the_login]": (
        "One of both places with each package manager: tests/lab/test_proxies.py. One script reads them on all "
        "machines (environment.sh)."
    ),
    "tests/lab/test_proxies.py::test_questions_and_jobs_use_the_same_proxy[apt-in_the_login]": (
        "As above: tests/lab/test_proxies.py."
    ),
    "tests/lab/test_proxies.py::test_questions_and_jobs_use_the_same_proxy[zypper-in_the_machines_file]": (
        "As above: tests/lab/test_proxies.py."
    ),
    "tests/lab/test_first_boot.py::test_a_first_boot_that_does_not_end_in_the_window_leaves_the_machine_alone": (
        "A first boot that is waited for: tests/lab/test_first_boot.py; one that does not end: "
        "tests/unit/engine/test_first_boot.py."
    ),
    "tests/lab/test_services.py::test_packages_that_somebody_changes_after_the_boot_are_waited_for_or_told": (
        "Simulated: tests/unit/engine/test_unjudged.py, tests/unit/engine/test_others_transactions.py. An "
        "administrator's transaction at the reboot of a real machine: tests/faults/test_on_machines.py."
    ),
    "tests/lab/test_resume.py::test_a_killed_download_whose_time_is_over_holds_nobody_up_and_is_settled": (
        "A killed download that is found, keeps others out until then and is resumed: tests/lab/test_resume.py; one "
        "whose time is over, simulated: tests/faults/test_simulated.py, with a mutant: tests/faults/test_mutations.py."
    ),
    "tests/lab/test_two_names.py::test_a_clone_is_another_machine": (
        "Which are the same: tests/unit/engine/test_two_names.py; two names: tests/lab/test_two_names.py."
    ),
    "tests/lab/test_lab.py::": ("Each test in tests/lab stands on what these look at, and fails without it."),
    "tests/lab/test_lab_rpm.py::": ("As above: tests/lab/test_dnf.py and tests/lab/test_zypper.py."),
    "tests/lab/reports/test_boot.py::test_a_newest_kernel_without_initramfs_is_not_booted[dnf]": (
        "The same with apt, by Red Hat's name of an initramfs too: tests/lab/reports/test_boot.py. One script looks "
        "into /boot on all machines (boot_files.sh)."
    ),
    "tests/lab/reports/test_boot.py::test_a_newest_kernel_without_initramfs_is_not_booted[zypper]": (
        "As above: tests/lab/reports/test_boot.py. SUSE's name of an initramfs: tests/contract/test_boot_files.py."
    ),
    "tests/lab/reports/test_boot.py::test_a_kernel_whose_script_failed_is_not_booted[dnf]": (
        "The same with apt and zypper: tests/lab/reports/test_boot.py. Scripts that fail with dnf, on a machine: "
        "tests/lab/reports/test_dnf_reports.py; dnf's words of a kernel's: tests/contract/test_rpm_failed_scripts.py."
    ),
    "tests/lab/reports/test_apt_failed_packages.py::test_a_file_of_two_packages_costs_its_package_and_what_depends_on_it"
    "[x-app]": (
        "The same with the library, after which apt has unmet dependencies just so: "
        "tests/lab/reports/test_apt_failed_packages.py. Their repair: tests/lab/test_apt.py."
    ),
    "tests/lab/test_updaters.py::test_a_timer_of_an_rpm_system_is_switched_off_for_good_and_on_again[zypper": (
        "The same with dnf: tests/lab/test_updaters.py. The units that a system may have, os-update.timer among them: "
        "tests/unit/managers/test_rpm_updaters.py."
    ),
    "tests/lab/test_updaters.py::test_a_real_systemd_has_the_units_of_other_systems_rest_too": (
        "Timers that rest under a real systemd while a machine is patched: tests/lab/test_updaters.py; the units of "
        "other systems, by the same script: tests/contract/test_updaters_of_families.py."
    ),
    "tests/lab/reports/test_failed_scripts.py::test_a_script_that_failed_is_told_until_it_succeeds[zypper]": (
        "The same with dnf: tests/lab/reports/test_failed_scripts.py. A script that fails with zypper, on a machine: "
        "tests/lab/reports/test_zypper.py; what its history tells until a package is installed well: "
        "tests/contract/test_zypper_failed_scripts.py."
    ),
    "tests/lab/vm/test_machines.py::test_machines_that_continue_from_a_memory_are_machines_of_their_own": (
        "Each test in tests/lab/vm stands on what it looks at, and fails without it; all are played together."
    ),
    "tests/lab/vm/test_kernels.py::test_a_kernel_without_initramfs_is_not_booted": (
        "The machine boots by QEMU without KVM: minutes. A real update by apt, after which the newest kernel has no "
        "initramfs: tests/lab/reports/test_boot.py. The warning of one that was there before: "
        "tests/unit/engine/test_next_boot.py."
    ),
    "tests/lab/vm/test_kernels.py::test_a_full_boot_partition_is_found_before_a_kernel_is_installed": (
        "QEMU without KVM takes its time. A full disk that is found before: tests/lab/test_patch.py."
    ),
    "tests/lab/vm/test_kernels.py::test_a_kernel_is_updated_and_booted_and_the_old_one_is_kept": (
        "An initramfs takes QEMU without KVM minutes. What the machine says of its kernels: "
        "tests/unit/managers/test_apt_reboot.py; a reboot that an update asks for: tests/lab/test_patch.py."
    ),
    "tests/lab/vm/test_kernels.py::test_grub_that_would_ask_for_its_disk_fails_and_nothing_is_rebooted": (
        "A boot package that fails, and the reboot that is not ordered: tests/unit/engine/test_patching.py; its words: "
        "tests/contract/test_apt_job_script.py."
    ),
    "tests/lab/vm/test_kernels.py::test_a_boot_that_fails_is_told": (
        "A machine that never comes back: tests/faults/test_on_machines.py, and simulated, with what is told: "
        "tests/unit/engine/test_reboots_in_trouble.py."
    ),
    "tests/lab/vm/test_power_cut.py::": (
        "A kernel is unpacked three times, and its initramfs made, by QEMU without KVM: eight minutes. Power cuts in "
        "containers: tests/contract/test_manager_contract_apt.py; a kernel without initramfs: "
        "tests/lab/reports/test_boot.py."
    ),
    "tests/lab/vm/test_killed_upgrade.py::": (
        "Some seventeen kills, each with a new process, on QEMU without KVM: a quarter of an hour. Simulated, with a "
        "death at each call: tests/unit/engine/test_image_upgrades.py."
    ),
    "tests/lab/vm/test_image_upgrade.py::": (
        "Each new OS disk is a boot of QEMU without KVM: minutes. The same runs with a provider in memory, and a "
        "controller that dies at each call: tests/unit/engine/test_image_upgrades.py; libvirt's orders, broken behind "
        "each command: tests/contract/providers/test_provider_contract.py."
    ),
    "tests/lab/vm/test_cloud_upgrade.py::": (
        "Four boots of QEMU without KVM, with cloud-init: minutes. What the seed has: tests/unit/images/"
        "test_network_config.py and tests/unit/images/test_user_data.py; where it goes: "
        "tests/unit/providers/test_libvirt_seeds.py; the run: tests/unit/engine/test_image_upgrades.py."
    ),
    "tests/lab/vm/test_image_components.py::": (
        "Three boots of QEMU without KVM: minutes. The same runs with a provider in memory, and a controller that dies "
        "at each call: tests/unit/engine/test_image_components.py; each kind of component in real shells, with "
        "stand-ins: tests/contract/test_components.py."
    ),
    "tests/contract/providers/test_provider_contract.py::test_an_order_that_breaks_anywhere_is_completed_by_the_same_order"
    "[libvirt-take-snapshot": (
        "Broken behind each command of libvirt, on a host in memory: tests/unit/providers/test_libvirt_broken.py; with "
        "libvirt while it replaces a disk, and each other order whole: "
        "tests/contract/providers/test_provider_contract.py."
    ),
    "tests/contract/providers/test_provider_contract.py::test_an_order_that_breaks_anywhere_is_completed_by_the_same_order"
    "[libvirt-revert": (
        "As above. Reverts with libvirt, of a machine that runs and of one that is off, with and without data disks: "
        "tests/contract/providers/test_provider_contract.py."
    ),
    "tests/contract/providers/test_provider_contract.py::test_an_order_that_breaks_anywhere_is_completed_by_the_same_order"
    "[libvirt-delete-snapshot": ("As above: tests/contract/providers/test_provider_contract.py."),
    "tests/contract/providers/test_provider_contract.py::test_an_order_that_breaks_anywhere_is_completed_by_the_same_order"
    "[libvirt-restore-os-disk": ("As above: tests/contract/providers/test_provider_contract.py."),
    "tests/contract/providers/test_provider_contract.py::test_an_order_that_breaks_anywhere_is_completed_by_the_same_order"
    "[libvirt-delete-os-disk": ("As above: tests/contract/providers/test_provider_contract.py."),
    "tests/contract/providers/test_provider_contract.py::test_a_deleted_snapshot_leaves_what_was_written_since"
    "[libvirt-on]": (
        "The first snapshot deleted while the machine runs, the second one while it is off: "
        "tests/contract/providers/test_provider_contract.py."
    ),
    "tests/contract/providers/test_provider_contract.py::test_a_deleted_snapshot_leaves_what_was_written_since"
    "[libvirt-off]": ("As above: tests/contract/providers/test_provider_contract.py."),
    "tests/contract/providers/test_provider_contract.py::test_a_new_os_disk_and_the_kept_one_back[libvirt]": (
        "The same between two snapshots, and the same order of a new disk again: "
        "tests/contract/providers/test_provider_contract.py."
    ),
    "tests/lab/vm/test_rehearsal.py::": (
        "Machine and copy are two QEMUs without KVM, patched one after the other: minutes. Simulated: "
        "tests/unit/engine/test_rehearsals.py; the host's script in real shells, without libvirt: "
        "tests/contract/providers/test_overlay_script.py; the XML: tests/unit/providers/test_libvirt_copy.py."
    ),
    "tests/lab/vm/test_identity.py::": (
        "Two QEMUs without KVM, a snapshot and a revert: minutes. Each verb and kind of provider, without machines: "
        "tests/unit/providers/test_identity.py; what machines tell: tests/contract/test_machine_identity_script.py."
    ),
    "tests/lab/vm/test_snapshots.py::": (
        "Each is minutes of QEMU without KVM. Simulated: tests/unit/engine/test_snapshots.py and "
        "tests/unit/engine/test_undo_by_snapshot.py; kills, no provider: tests/faults/hypervisor.py; the "
        "orders to libvirt: tests/unit/providers/test_libvirt_dangers.py; their end: tests/contract/test_snapshots.py."
    ),
    "tests/lab/vm/test_lvm.py::": (
        "A machine without KVM whose system is moved onto LVM, and that boots three times: minutes. The script in real "
        "shells, with stand-ins for LVM: tests/contract/providers/test_lvm.py."
    ),
    "tests/lab/vm/test_btrfs.py::": (
        "A machine without KVM that boots twice: minutes. The script in real shells, with stand-ins for btrfs: "
        "tests/contract/providers/test_btrfs.py."
    ),
    "tests/lab/reports/test_made_packages.py::": (
        "Updates of made packages that are installed, and their class: tests/lab/reports/test_hunted_dnf.py, "
        "tests/lab/reports/test_hunted_zypper.py and tests/lab/reports/test_apt_policy.py."
    ),
    "tests/flows/test_cancel_served.py::test_a_transaction_that_ends_in_time_is_recorded_by_the_run_itself": (
        "A transaction that outlasts Prefect's patience is the harder case: tests/flows/test_cancel_served.py; one "
        " that ends in time, with simulated machines: tests/flows/test_cancel.py."
    ),
    "tests/flows/test_buttons.py::": (
        "Prefect's pages change only with the locked version of Prefect. What their buttons send: Suspend, Resume, and "
        "Retry of a run that is over, tests/flows/test_suspended.py; Cancel, tests/flows/test_cancel_served.py; a run "
        "that is started again, tests/flows/test_cancel.py. A form of Prefect that a person sends in a browser: "
        "tests/attacks/test_prefect_server.py."
    ),
    "tests/flows/test_readme.py::test_the_example_patches_a_machine": (
        "The example, run as it stands, with simulated machines: tests/flows/test_fleet_flows.py. The command with a "
        "Prefect server of its own: tests/flows/test_cli_process.py; with real machines: "
        "tests/lab/test_repository_secrets.py."
    ),
    "tests/flows/test_cli_process.py::test_this_machine_is_planned_for_and_nothing_is_changed": (
        "This machine is assessed in tests/contract/test_production_lock.py. Its transport: "
        "tests/contract/test_transport_contract.py. An assessment changes nothing: "
        "tests/contract/test_manager_contract_apt.py."
    ),
    "tests/contract/test_backup.py::test_secrets_and_history_are_there_again_and_the_backup_alone_opens_no_secret"
    "[postgres": (
        "The same with SQLite: the same file. A server on PostgreSQL, whose tables Prefect makes: "
        "tests/contract/test_server.py."
    ),
    "tests/flows/test_cancel_served.py::test_a_process_that_dies_without_a_word_is_followed_by_another_that_goes_on": (
        "A killed process and its successor on real machines: tests/lab/test_resume.py and "
        "tests/faults/test_on_machines.py; with a served flow: tests/flows/test_reconcile_served.py."
    ),
    "tests/lab/test_dnf.py::TestDnf::test_a_power_cut_in_a_transaction_is_reported_and_repaired": (
        "The same on dnf: tests/contract/test_manager_contract_dnf.py; with a whole run: tests/lab/test_zypper.py."
    ),
    "tests/contract/test_manager_contract_zypper.py::test_a_power_cut_in_a_transaction_is_repaired": (
        "The same on dnf: tests/contract/test_manager_contract_dnf.py; on zypper with a whole run: "
        "tests/lab/test_zypper.py."
    ),
    "tests/contract/test_manager_contract_dnf.py::TestDownload::test_a_stop_ends_a_download": (
        "The same with zypper: tests/contract/test_manager_contract_zypper.py; dnf's own process, with a stand-in: "
        "tests/contract/test_rpm_job_script.py."
    ),
    "tests/contract/test_manager_contract_dnf.py::TestDownload"
    "::test_a_download_that_is_not_over_in_time_is_ended_and_nothing_is_unpacked": (
        "The same with zypper and apt: tests/contract/test_manager_contract_zypper.py and "
        "tests/contract/test_manager_contract_apt.py; dnf and zypper share the script of a job. dnf's download that is "
        "ended in time, ahead of a run: tests/contract/test_manager_contract_dnf.py; what the script begins and ends, "
        "with a stand-in for dnf: tests/contract/test_rpm_job_waits.py and tests/contract/test_rpm_job_script.py."
    ),
    "tests/contract/test_manager_contract_apt.py::TestDownload::test_a_stop_ends_a_download": (
        "The same with zypper: tests/contract/test_manager_contract_zypper.py; apt's own process, with a stand-in: "
        "tests/contract/test_apt_job_script.py."
    ),
    "tests/contract/test_manager_contract_zypper.py::TestDownload::test_downloading_ahead_is_ended_in_time": (
        "The same with dnf and apt: tests/contract/test_manager_contract_dnf.py and "
        "tests/contract/test_manager_contract_apt.py; zypper's own process, with a stand-in: "
        "tests/contract/test_rpm_job_waits.py."
    ),
    "tests/lab/windows/test_patching_denied.py::test_what_windows_refuses_to_the_login_system_is_asked_for[1]": (
        "The same with the session before it, the search and the history after it, and the name of what was refused: "
        "tests/lab/windows/test_patching_denied.py."
    ),
    "tests/lab/test_dnf.py::TestDnf::test_the_transaction_of_an_administrator_is_waited_for": (
        "The same with zypper: tests/lab/test_zypper.py; dnf's locks: tests/contract/test_manager_contract_dnf.py."
    ),
    "tests/contract/web/test_browser_pages.py::test_page_has_no_fault_in_each_look": (
        "A page of each template on a desk, a phone and paper, by axe in both themes, with the focus on everything in "
        "turn; on a wide desk those of WITHOUT_CUTS; by the Tab key those of PRESSED, without scripts those with "
        "scripts of their own; on a phone the further ones with parts of their own: "
        "tests/contract/web/test_browser_pages.py."
    ),
    "tests/unit/rules/automatic/test_simulated_year.py::test_a_broken_rule_is_noticed[sick sets are patched]": (
        "The rule itself: tests/unit/rules/automatic/test_decision.py. That the year had cases of it: "
        "tests/unit/rules/automatic/test_simulated_year.py, whose checker notices the other broken rules sooner."
    ),
    "tests/unit/rules/automatic/test_simulated_year.py::test_a_broken_rule_is_noticed"
    "[waits for machines that are off]": (
        "The rule itself: tests/unit/rules/automatic/test_decision.py and "
        "tests/unit/rules/automatic/test_late_machines.py. That the year had cases of it: "
        "tests/unit/rules/automatic/test_simulated_year.py."
    ),
    **dict.fromkeys(
        (
            f"tests/contract/test_report_in_browser.py::{test}[{report}]"
            for test in (
                "test_on_screens_nothing_overflows_and_no_word_is_torn",
                "test_on_a4_paper_every_column_is_there",
                "test_at_a_desk_figures_stand_below_their_heads",
                "test_on_a_phone_every_figure_bears_its_name",
            )
            for report in ("forty", "60 ugly machines")
        ),
        "Forty machines with the longest texts, at more widths (ugly patch), and usual texts (by a run): "
        "tests/contract/test_report_in_browser.py.",
    ),
}
"""The beginnings of ids of tests, each with the reason why the rest is enough at each change."""


def is_release_test(nodeid: str) -> bool:
    """Return whether a test is for releases only."""
    return nodeid.startswith(tuple(RELEASE_TESTS))
