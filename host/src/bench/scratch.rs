//! A directory of one run, gone afterwards.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use anyhow::Context;

/// A directory that this process made and removes.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it below `parent`, or below the system's temporary directory. It must be new: what is removed later is ours alone.
    pub fn below(parent: Option<&Path>) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(env::temp_dir, Path::to_owned);
        fs::create_dir_all(&parent).with_context(|| format!("{} cannot be made", parent.display()))?;
        let dir = parent.join(format!("tidegate-bench-{}", process::id()));
        fs::create_dir(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("{} is left behind: {error}", self.0.display());
        }
    }
}
