//! Points at which a test stops the process for good, to kill it there. Without the crate feature `switches` there are none.

/// Stops the calling thread for good, if `TIDEGATE_PAUSE_AT` names the point; standard error says so before.
#[cfg(feature = "switches")]
pub(crate) fn at(point: &str) {
    if std::env::var("TIDEGATE_PAUSE_AT").is_ok_and(|wanted| wanted == point) {
        eprintln!("paused at {point}");
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing, in this build.
#[cfg(not(feature = "switches"))]
pub(crate) const fn at(_point: &str) {}
