"""What a job does with the files in the cache of dnf."""

from pathlib import Path

from tests.contract.test_rpm_job_script import INSTALLED, UPGRADE, calls, kinds, put_downloaded, run, says


def test_files_are_read_and_removed_in_all_folders_of_the_cache(tmp_path: Path) -> None:
    put_downloaded(tmp_path)
    files = [tmp_path / "a cache" / folder / "packages/a-2-1.noarch.rpm" for folder in ("one", "two")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("package")
    says(tmp_path, "simulate", f"cachedir: {tmp_path}/a cache\n{UPGRADE}")
    assert kinds(run(tmp_path)) == INSTALLED
    assert not calls(tmp_path, "--downloadonly")
    assert (tmp_path / "read").read_text().split(" ", 2)[2] == f"{' '.join(map(str, files))}\n"
    assert not any(file.exists() for file in files)
