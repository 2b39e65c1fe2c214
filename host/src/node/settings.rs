//! Settings: defaults, then `DIR/tidegate.toml`, then `TIDEGATE_*` from the environment.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use tidegate_binlog::{DeltaForm, FilterKind};
use tidegate_core::calls::storage_version;
use tidegate_core::pchannel::Probation;

use crate::engine::GuestConfig;
use crate::storage::Bucket;

/// The numbers that decide. Times of batches and reports are event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Physical channels. Two: each has a log writer and a flusher of its own. Fixed once a directory has collections.
    pub pchannels: u32,
    /// Bytes that messages of all pchannels may hold between log and files (ME-1). Each pchannel has an equal share for itself, so that
    /// none starves another.
    pub budget_bytes: usize,
    /// Bytes at which a segment's rows are synced; Milvus' `dataNode.segment.insertBufSize`.
    pub insert_buffer_bytes: u64,
    /// Bytes at which a partition's deletes are synced; Milvus' `dataNode.segment.deleteBufBytes`.
    pub delete_buffer_bytes: u64,
    /// Seconds that a batch spans at most; Milvus' `dataNode.segment.syncPeriod`.
    pub sync_period_s: u64,
    /// Seconds between two reports of a channel's checkpoint; Milvus' `dataNode.channel.updateChannelCheckpointInterval`.
    pub report_period_s: u64,
    /// Checkpoints reported in a turn; Milvus' `maxChannelCheckpointsPerPRC`.
    pub reports_max: u32,
    /// Milliseconds within which idle ticks are passed over; Milvus' `streaming.flush.emptyTimeTick.maxFilterInterval`.
    pub idle_tick_ms: u64,
    /// Messages a page: enough that a turn's fixed cost vanishes.
    pub page_max: u32,
    /// Bytes at which the write path completes a segment; a tenth of Milvus' 1 GiB, since this is one machine.
    pub segment_bytes: u64,
    /// Bytes of one insert message; larger inserts are split.
    pub message_bytes: usize,
    /// Layout of new segments: 0, one file a field, which every Milvus reads; 2, packed, which 2.6 does.
    pub storage_version: i64,
    /// Bloom filters in statistics: `basic`, which every Milvus reads; `blocked`, Milvus' `common.bloomFilterType` in 2.6.
    pub bloom_filter: FilterKind,
    /// Form of delta logs: `json`, which every Milvus reads; `parquet`. Milvus' `dataNode.storage.deltalog`.
    pub delta_log: DeltaForm,
    /// Where segment files are, `s3://bucket/prefix`; in the directory's own folder `chunks` when none is named. A directory keeps it.
    pub storage: Option<String>,
    /// URL of an object store that is not Amazon's.
    pub storage_endpoint: Option<String>,
    /// Threads that write segment files, a pchannel: each holds a batch's columns and one encoded file beside the budget's messages.
    pub writers: usize,
    /// Turns that a new component is on probation at least.
    pub probation_turns: u64,
    /// Seconds of event time that a new component is on probation at least.
    pub probation_s: u64,
    /// Seconds of event time by which the largest checkpoint lag may grow during probation.
    pub probation_lag_s: u64,
    /// Where metrics, health and status are served, if anywhere; loopback only.
    pub http: Option<SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pchannels: 2,
            budget_bytes: 256 << 20,
            insert_buffer_bytes: 16 << 20,
            delete_buffer_bytes: 16 << 20,
            sync_period_s: 600,
            report_period_s: 60,
            reports_max: 128,
            idle_tick_ms: 1_000,
            page_max: 256,
            segment_bytes: 128 << 20,
            message_bytes: 2 << 20,
            storage_version: storage_version::FIELDS,
            bloom_filter: FilterKind::Basic,
            delta_log: DeltaForm::Json,
            storage: None,
            storage_endpoint: None,
            writers: 1,
            probation_turns: 1_000,
            probation_s: 60,
            probation_lag_s: 1_800,
            http: None,
        }
    }
}

impl Settings {
    /// Reads the settings of a directory.
    ///
    /// # Errors
    /// Names the file or variable, the key and the value that is wrong.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join("tidegate.toml");
        let figment =
            Figment::from(Serialized::defaults(Self::default())).merge(Toml::file(&file)).merge(Env::prefixed("TIDEGATE_").only(&KEYS));
        let settings: Self = figment.extract().with_context(|| format!("settings of {}", file.display()))?;
        settings.check().with_context(|| format!("settings of {}", file.display()))?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=64).contains(&self.pchannels), "pchannels = {}: 1 to 64", self.pchannels);
        let least = self.pchannels as usize * (4 << 20);
        anyhow::ensure!(self.budget_bytes >= least, "budget_bytes = {}: at least 4 MiB a pchannel, {least}", self.budget_bytes);
        anyhow::ensure!(self.message_bytes >= 1 << 10, "message_bytes = {}: at least 1024", self.message_bytes);
        anyhow::ensure!(self.message_bytes <= 8 << 20, "message_bytes = {}: at most 8 MiB", self.message_bytes);
        let version = self.storage_version;
        anyhow::ensure!(storage_version::is_known(version), "storage_version = {version}: 0, one file a field, or 2, packed");
        self.bucket().map_err(|problem| anyhow::anyhow!("storage: {problem}"))?;
        let unused = self.storage.is_none() && self.storage_endpoint.is_some();
        anyhow::ensure!(!unused, "storage_endpoint says where a bucket is, and storage names none");
        anyhow::ensure!(self.writers >= 1, "writers = 0: at least 1");
        anyhow::ensure!(self.page_max >= 1 && self.reports_max >= 1, "page_max and reports_max: at least 1");
        anyhow::ensure!(self.http.is_none_or(|a| a.ip().is_loopback()), "http = {:?}: loopback only", self.http);
        Ok(())
    }

    /// Returns the bucket of the segment files, if they are in one.
    ///
    /// # Errors
    /// One sentence: what a URL looks like.
    pub fn bucket(&self) -> Result<Option<Bucket>, String> {
        self.storage.as_deref().map(|url| Bucket::parse(url, self.storage_endpoint.as_deref())).transpose()
    }

    pub(super) fn pchannel_names(&self) -> Vec<String> {
        (0..self.pchannels).map(|n| format!("tidegate-dml_{n}")).collect()
    }

    /// Bytes that one pchannel may hold.
    pub(super) fn share_bytes(&self) -> usize {
        self.budget_bytes / self.pchannels as usize
    }

    /// ME-1: the part of a share for what waits for its tick or its transaction's end; rows beyond it stay in the log.
    pub(super) fn scan_bytes(&self) -> usize {
        self.share_bytes() / 4
    }

    pub(super) fn probation(&self) -> Probation {
        Probation {
            turns: self.probation_turns,
            event_ms: self.probation_s.saturating_mul(1_000),
            lag_ms: self.probation_lag_s.saturating_mul(1_000),
        }
    }

    /// Those of them that the scan of a channel which catches up may hold: one channel needs less than all of them.
    pub(super) fn catch_up_bytes(&self) -> usize {
        self.scan_bytes() / 4
    }

    pub(crate) fn guest(&self, pchannel: &str, term: i64) -> GuestConfig {
        // ME-1: a batch is at most a quarter of the share, so that one can be written while the next ones fill.
        let batch_bytes_max = self.share_bytes() as u64 / 4;
        GuestConfig {
            pchannel: pchannel.to_owned(),
            term,
            insert_bytes_max: self.insert_buffer_bytes.min(batch_bytes_max),
            delete_bytes_max: self.delete_buffer_bytes.min(batch_bytes_max),
            sync_period_ms: self.sync_period_s.saturating_mul(1_000),
            report_period_ms: self.report_period_s.saturating_mul(1_000),
            reports_max: self.reports_max,
            idle_tick_ms: self.idle_tick_ms,
            page_max: self.page_max,
        }
    }
}

/// Keys that the environment may set; other `TIDEGATE_*` variables are for other things.
const KEYS: [&str; 21] = [
    "pchannels",
    "budget_bytes",
    "insert_buffer_bytes",
    "delete_buffer_bytes",
    "sync_period_s",
    "report_period_s",
    "reports_max",
    "idle_tick_ms",
    "page_max",
    "segment_bytes",
    "message_bytes",
    "storage_version",
    "bloom_filter",
    "delta_log",
    "storage",
    "storage_endpoint",
    "writers",
    "probation_turns",
    "probation_s",
    "probation_lag_s",
    "http",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_overrides_defaults_and_a_wrong_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tidegate.toml"), "budget_bytes = 67108864\n").unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap().budget_bytes, 64 << 20);
        std::fs::write(dir.path().join("tidegate.toml"), "bugdet_bytes = 1\n").unwrap();
        let error = format!("{:#}", Settings::load(dir.path()).unwrap_err());
        assert!(error.contains("bugdet_bytes"), "{error}");
    }

    #[test]
    fn the_forms_of_segment_files_are_chosen_by_name_and_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            std::fs::write(dir.path().join("tidegate.toml"), text).unwrap();
            Settings::load(dir.path())
        };
        let chosen = load("storage_version = 2\nbloom_filter = \"blocked\"\ndelta_log = \"parquet\"\n").unwrap();
        assert_eq!((chosen.storage_version, chosen.bloom_filter, chosen.delta_log), (2, FilterKind::Blocked, DeltaForm::Parquet));
        for wrong in ["storage_version = 1", "bloom_filter = \"cuckoo\"", "delta_log = \"avro\""] {
            let error = format!("{:#}", load(wrong).unwrap_err());
            assert!(error.contains(wrong.split(' ').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_bucket_that_is_none_is_refused_and_so_is_an_endpoint_without_one() {
        let dir = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            std::fs::write(dir.path().join("tidegate.toml"), text).unwrap();
            Settings::load(dir.path())
        };
        let chosen = load("storage = \"s3://files/mine\"\nstorage_endpoint = \"http://127.0.0.1:9000\"\n").unwrap();
        assert_eq!(chosen.bucket().unwrap().unwrap().to_string(), "s3://files/mine at http://127.0.0.1:9000");
        for (wrong, says) in [("storage = \"files\"", "such as s3://bucket/prefix"), ("storage_endpoint = \"http://h\"", "names none")] {
            let error = format!("{:#}", load(wrong).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_budget_that_starves_a_pchannel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tidegate.toml"), "budget_bytes = 1000\n").unwrap();
        assert!(Settings::load(dir.path()).is_err());
    }
}
