//! A disk that is full. Needs the right to mount a small file system; says so and passes without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::micro::{Micro, copy, reference, results_in};

/// A small file system in memory, gone when dropped.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(at: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"]).arg(at);
        let output = mount.output().map_err(|e| format!("mount cannot be started: {e}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_string());
        }
        Ok(SmallDisk { at: at.into() })
    }

    pub(crate) fn grow(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(&self.at);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What cannot be unmounted stays until the machine is restarted; the test has ended anyway.
        Command::new("umount").arg(&self.at).status().ok();
    }
}

#[test]
fn fault_5_a_full_disk_stops_the_run_cleanly_and_it_goes_on_when_there_is_space() {
    let micro = Micro::new();
    let disk = match SmallDisk::mount(&micro.path("run"), "200k") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("SKIPPED: full disk: no small file system: {why}"),
    };
    let hint = "The disk is full. Nothing that was finished is lost: free some space, and the same \
                command goes on.";
    let mut stops = 0;
    for size in ["200k", "300k", "420k", "600k", "800k", "1100k", "1500k", "2000k", "3000k"] {
        disk.grow(size);
        let said = micro.run();
        if said.code == Some(0) {
            break;
        }
        stops += 1;
        assert_eq!(said.code, Some(1), "{}", said.all());
        assert!(said.err.contains("No space left on device"), "{size}: {}", said.err);
        assert!(said.err.contains(hint), "{size}: {}", said.err);
    }
    disk.grow("64m");
    micro.run().ends(0);
    assert!(stops >= 3, "the disk was full only {stops} times");
    assert_eq!(micro.results(), results_in(&reference().join("run")));
    // Out of the mount before it goes, so that a failure above leaves something to look at.
    copy(&micro.path("run"), &micro.path("kept"));
    drop(disk);
}
