//! Waits for channels to get somewhere, which end with an error when they cannot.

use std::time::{Duration, Instant};

use tidegate_core::coordinator::{Shard, pchannel_of};
use tidegate_core::pchannel::Status;

use super::NodeError;

/// How long a pchannel that tries to mend itself is waited for, while nothing gets done. Longer than its longest backoff, 10 s, and than a
/// flusher's answer, so that a restarted peer is not given up.
const MENDING_MAX: Duration = Duration::from_secs(30);
/// A trouble that was not seen for so long is over: between two tries, a pchannel may look well for a moment.
const MENDED_AFTER: Duration = Duration::from_secs(15);

/// A wait for the channels of some shards.
pub(super) struct Wait<'a> {
    shards: &'a [Shard],
    trouble: Option<Trouble>,
}

/// Something that may pass by itself.
struct Trouble {
    since: Instant,
    seen: Instant,
    channel: String,
    why: String,
}

impl<'a> Wait<'a> {
    pub fn new(shards: &'a [Shard]) -> Self {
        Self { shards, trouble: None }
    }

    /// Something got done: what was odd did not keep it.
    pub fn progressed(&mut self) {
        self.trouble = None;
    }

    /// Whether the wait may end well, by what the pchannels say now.
    ///
    /// # Errors
    /// [`NodeError::Stuck`]: a channel is detached for a cause that lasts, or for long; its work has failed for long; its pchannel has
    /// stopped for good, or did nothing but recover for long.
    pub fn check(&mut self, pchannels: &[Status], now: Instant) -> Result<(), NodeError> {
        for status in pchannels {
            let Some(shard) = self.shards.iter().find(|s| pchannel_of(&s.vchannel) == status.pchannel) else { continue };
            let said = || {
                let reason = status.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                format!("its pchannel is {}{reason}", status.state)
            };
            match status.state.as_str() {
                "working" | "in_recovery" => {}
                "fenced" | "log moved" | "dead" | "stopped" | "closing" => {
                    return Err(NodeError::Stuck { channel: shard.vchannel.clone(), why: said() });
                }
                _ => {
                    let since = self.trouble.as_ref().map_or(now, |t| t.since);
                    self.trouble = Some(Trouble { since, seen: now, channel: shard.vchannel.clone(), why: said() });
                }
            }
            let mut channels = status.channels.iter().filter(|c| self.shards.iter().any(|s| s.vchannel == c.vchannel));
            if let Some(channel) = channels.find(|c| c.standing == "detached") {
                if channel.stays_detached {
                    return Err(NodeError::Stuck { channel: channel.vchannel.clone(), why: channel.pin.clone() });
                }
                let since = self.trouble.as_ref().map_or(now, |t| t.since);
                self.trouble = Some(Trouble { since, seen: now, channel: channel.vchannel.clone(), why: channel.pin.clone() });
            }
            let mut channels = status.channels.iter().filter(|c| self.shards.iter().any(|s| s.vchannel == c.vchannel));
            if let Some((channel, why)) = channels.find_map(|c| Some((c.vchannel.clone(), c.failing.clone()?))) {
                let since = self.trouble.as_ref().map_or(now, |t| t.since);
                self.trouble = Some(Trouble { since, seen: now, channel, why });
            }
        }
        match &self.trouble {
            Some(trouble) if now.duration_since(trouble.seen) > MENDED_AFTER => self.trouble = None,
            Some(Trouble { since, channel, why, .. }) if now.duration_since(*since) > MENDING_MAX => {
                let why = format!("{why}. Nothing got done for {} s", now.duration_since(*since).as_secs());
                return Err(NodeError::Stuck { channel: channel.clone(), why });
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::calls::Caller;
    use tidegate_core::pchannel::{ChannelStatus, Limits, Pchannel};

    use super::*;

    fn status(state: &str) -> Status {
        let caller = Caller { node_id: 1, pchannel: "p_0".into(), term: 1 };
        Status { state: state.into(), reason: Some("a reason".into()), ..Pchannel::new(caller, Limits::default()).status() }
    }

    fn with_channel(standing: &str, stays_detached: bool) -> Status {
        let channel = ChannelStatus {
            vchannel: "p_0_1v0".into(),
            standing: standing.into(),
            pin: "why it is so".into(),
            stays_detached,
            ..ChannelStatus::default()
        };
        Status { channels: vec![channel], ..status("working") }
    }

    fn shards() -> Vec<Shard> {
        vec![Shard { vchannel: "p_0_1v0".into(), start: None }]
    }

    #[test]
    fn a_wait_ends_at_once_when_its_pchannel_has_stopped_for_good() {
        let shards = shards();
        for state in ["dead", "fenced", "log moved", "stopped", "closing"] {
            let error = Wait::new(&shards).check(&[status(state)], Instant::now()).unwrap_err().to_string();
            assert!(error.contains("p_0_1v0") && error.contains(state) && error.contains("a reason"), "{error}");
            let elsewhere = Status { pchannel: "p_1".into(), ..status(state) };
            assert!(Wait::new(&shards).check(&[elsewhere], Instant::now()).is_ok());
        }
        assert!(Wait::new(&shards).check(&[status("working"), status("in_recovery")], Instant::now()).is_ok());
    }

    #[test]
    fn a_detached_channel_is_waited_for_as_long_as_it_may_rejoin() {
        let (shards, began) = (shards(), Instant::now());
        let at = |s: u64| began + Duration::from_secs(s);
        let error = Wait::new(&shards).check(&[with_channel("detached", true)], began).unwrap_err().to_string();
        assert!(error.contains("why it is so"), "{error}");
        let mut wait = Wait::new(&shards);
        wait.check(&[with_channel("detached", false)], at(0)).unwrap();
        wait.check(&[with_channel("rejoining", false)], at(20)).unwrap();
        wait.check(&[with_channel("served", false)], at(40)).unwrap();
        // One that comes and goes gets nothing done.
        let mut wait = Wait::new(&shards);
        for s in 0..=30 {
            wait.check(&[with_channel(if s % 4 == 0 { "rejoining" } else { "detached" }, false)], at(s)).unwrap();
        }
        let error = wait.check(&[with_channel("detached", false)], at(32)).unwrap_err().to_string();
        assert!(error.contains("why it is so") && error.contains("31 s"), "{error}");
    }

    #[test]
    fn work_that_fails_for_long_ends_a_wait_and_says_what_failed() {
        let (shards, began) = (shards(), Instant::now());
        let at = |s: u64| began + Duration::from_secs(s);
        let failing = |vchannel: &str| {
            let mut status = with_channel("served", false);
            status.channels[0].vchannel = vchannel.into();
            status.channels[0].failing = Some("segment write failed 7 times: no space".into());
            status
        };
        let mut wait = Wait::new(&shards);
        for s in 0..=30 {
            wait.check(&[failing("p_0_1v0")], at(s)).unwrap();
        }
        let error = wait.check(&[failing("p_0_1v0")], at(31)).unwrap_err().to_string();
        assert!(error.contains("p_0_1v0") && error.contains("no space") && error.contains("31 s"), "{error}");
        let mut wait = Wait::new(&shards);
        (0..100).for_each(|s| wait.check(&[failing("p_0_2v0")], at(s)).unwrap());
    }

    #[test]
    fn a_trouble_that_lasts_ends_a_wait_and_one_that_passes_does_not() {
        let (shards, began) = (shards(), Instant::now());
        let at = |s: u64| began + Duration::from_secs(s);
        // Between two recoveries it looks well for a moment.
        let mut wait = Wait::new(&shards);
        for s in 0..30 {
            let state = if s % 10 == 0 { "recovering again" } else { "working" };
            wait.check(&[status(state)], at(s)).unwrap();
        }
        let error = wait.check(&[status("recovering again")], at(31)).unwrap_err().to_string();
        assert!(error.contains("recovering again") && error.contains("31 s"), "{error}");
        let mut wait = Wait::new(&shards);
        wait.check(&[status("scan failing")], at(0)).unwrap();
        wait.check(&[status("working")], at(16)).unwrap();
        wait.check(&[status("scan failing")], at(40)).unwrap();
        wait.progressed();
        wait.check(&[status("scan failing")], at(80)).unwrap();
    }
}
