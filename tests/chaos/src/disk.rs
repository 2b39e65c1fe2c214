//! A small disk: a file system in memory of a given size, in a mount namespace of its own, which needs no privileges where user namespaces
//! are allowed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tidegate_tests::process::Ended;

/// A mounted file system; gone, with everything on it, when it is dropped.
pub struct SmallDisk {
    /// Keeps the namespace.
    holder: Ended,
    path: PathBuf,
    below: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of `mib` MiB, or says why this machine does not let us.
    pub fn new(mib: u32) -> Result<Self, String> {
        let below = tempfile::tempdir().map_err(|e| e.to_string())?;
        let script = format!("mount -t tmpfs -o size={mib}m tidegate '{}' && echo mounted && exec sleep 1000", below.path().display());
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut holder = Ended(child.map_err(|e| format!("unshare: {e}"))?);
        let mut line = String::new();
        let out = holder.0.stdout.take().expect("piped");
        if !BufReader::new(out).read_line(&mut line).is_ok_and(|_| line.trim() == "mounted") {
            let mut said = String::new();
            let err = holder.0.stderr.take().expect("piped");
            let _whole = std::io::Read::read_to_string(&mut { err }, &mut said);
            return Err(said.trim().to_owned());
        }
        let path = PathBuf::from(format!("/proc/{}/root{}", holder.0.id(), below.path().display()));
        let disk = Self { holder, path, below };
        let entered = Command::new("nsenter").args(&disk.enter()[1..]).arg("true").output().map_err(|e| format!("nsenter: {e}"))?;
        if !entered.status.success() {
            return Err(String::from_utf8_lossy(&entered.stderr).trim().to_owned());
        }
        fs::metadata(&disk.path).map_err(|e| format!("{}: {e}", disk.path.display()))?;
        Ok(disk)
    }

    /// Mounts one, or says loudly that the test is skipped.
    pub fn or_skip(test: &str, mib: u32) -> Option<Self> {
        Self::new(mib).map_err(|why| println!("SKIPPED: {test}: this machine lets us mount nothing: {why}")).ok()
    }

    /// Where it is, for processes in its namespace.
    pub fn inside(&self) -> &Path {
        self.below.path()
    }

    /// Where it is, for everybody else.
    pub fn outside(&self) -> &Path {
        &self.path
    }

    /// What a command begins with that runs in its namespace.
    pub fn enter(&self) -> Vec<String> {
        let pid = self.holder.0.id();
        ["nsenter", &format!("--target={pid}"), "--user", "--mount", "--preserve-credentials"].map(str::to_owned).to_vec()
    }

    /// Fills it but for `left` bytes, with a file that is removed to make room.
    pub fn fill(&self, left: u64) {
        let free = rustix::fs::statvfs(&self.path).map(|s| s.f_bavail * s.f_frsize).expect("a file system");
        let mut file = File::create(self.path.join("ballast")).expect("a file");
        let block = vec![0; 1 << 12];
        for _ in 0..free.saturating_sub(left) >> 12 {
            file.write_all(&block).expect("there is room");
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        fs::remove_file(self.path.join("ballast")).expect("there is ballast");
    }
}
