//! The synchronous state machines of a flusher. No threads, no clocks, no files: events in, actions out.
//!
//! | module | idea |
//! |---|---|
//! | [`scan`] | records of a log → messages in tick order, transactions assembled |
//! | [`pchannel`] | one pchannel's flusher: turn loop, guard, calls |
//! | [`account`] | what the host itself knows of a channel: pins |
//! | [`ledger`] | every row ends once (LD-1) |
//! | [`journal`] | a snapshot and the turns since |
//! | [`retry`] | calls in flight |
//! | [`coordinator`] | the rules of the embedded coordinator |
//! | [`versions`] | which version of the component serves which pchannel, by the swap log |
//! | [`calls`], [`turn`] | the words of the two borders |

pub mod account;
pub mod calls;
pub mod coordinator;
pub mod journal;
pub mod ledger;
pub mod mutants;
pub mod pchannel;
pub mod retry;
pub mod scan;
pub mod switches;
pub mod turn;
pub mod versions;
