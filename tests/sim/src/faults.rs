//! The faults that the world knows, each with the id under which a run counts how often it struck.

use crate::scenario::{Op, Successor, Trouble};

/// Every fault: id and words.
pub const FAULTS: [(&str, &str); 55] = [
    ("F-01", "call lost before it was applied"),
    ("F-02", "answer lost after the call was applied"),
    ("F-03", "call never answered"),
    ("F-04", "call answered after half a minute, or five"),
    ("F-05", "call delivered twice"),
    ("F-06", "question answered from the past"),
    ("F-07", "not found, though it is there"),
    ("F-08", "report dropped in silence"),
    ("F-09", "storage unavailable"),
    ("F-10", "storage slow"),
    ("F-11", "storage reset after the write"),
    ("F-12", "half a file written"),
    ("F-13", "log stalls"),
    ("F-14", "record read twice"),
    ("F-15", "trap in a turn"),
    ("F-16", "trap in a snapshot"),
    ("F-17", "instance does not start"),
    ("F-33", "component lies"),
    ("F-34", "turn over its deadline or memory"),
    ("F-35", "snapshot over its deadline, memory or size"),
    ("F-36", "snapshot damaged"),
    ("F-37", "snapshot of an earlier state"),
    ("F-38", "restore fails"),
    ("F-39", "accounts fail, or mean nothing"),
    ("F-40", "accounts lie"),
    ("F-41", "process killed at a step of a swap"),
    ("F-42", "power loss at a step of a swap"),
    ("F-43", "pchannel moved at a step of a swap"),
    ("F-18", "process killed, next term"),
    ("F-19", "process killed, same term"),
    ("F-20", "power loss"),
    ("F-21", "pchannel moved, old owner a zombie"),
    ("F-22", "process stopped and resumed"),
    ("F-23", "coordinator restarted in a call"),
    ("F-24", "event time jumps"),
    ("F-25", "transaction never ended"),
    ("F-26", "unreadable body in a transaction"),
    ("F-27", "message of an unknown type"),
    ("F-28", "malformed record"),
    ("F-29", "record too late for its tick"),
    ("F-30", "flush of an unknown segment"),
    ("F-31", "message of an unknown channel"),
    ("F-32", "coordinator drops a channel by itself"),
    ("F-44", "successor that faults at once"),
    ("F-45", "successor that faults later"),
    ("F-46", "successor that lies"),
    ("F-47", "successor with false accounts"),
    ("F-48", "successor that does not start"),
    ("F-49", "swap ordered twice"),
    ("F-50", "save dropped, the peer says that it keeps what it had"),
    ("F-51", "disk full for as long as it lasts"),
    ("F-52", "rows after their segment's flush"),
    ("F-53", "node whose clock runs at another pace"),
    ("F-54", "transaction torn by a change of terms"),
    ("F-55", "more than a hundred channels"),
];

/// The id of a window's trouble.
pub fn id_of(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::SaveIgnored => "F-50",
        Trouble::DiskFull => "F-51",
        _ => FAULTS[trouble as usize].0,
    }
}

/// The id of an operation that is a fault.
pub fn id_of_op(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Kill { same_term: false, .. } => "F-18",
        Op::Kill { same_term: true, .. } => "F-19",
        Op::PowerLoss => "F-20",
        Op::Move { .. } => "F-21",
        Op::Pause { .. } => "F-22",
        Op::CoordinatorRestart => "F-23",
        Op::ClockJump { .. } => "F-24",
        Op::End { commit: None, .. } => "F-25",
        Op::Body { bad: true, .. } => "F-26",
        Op::Unknown { .. } => "F-27",
        Op::Malformed { .. } => "F-28",
        Op::Late { .. } => "F-29",
        Op::AfterFlush { .. } => "F-52",
        Op::Orphan { .. } | Op::OrphanAgain => "F-30",
        Op::Stray { .. } => "F-31",
        Op::DropCollection { early: true, .. } => "F-32",
        Op::Swap { to: Successor::FaultsAtOnce, .. } => "F-44",
        Op::Swap { to: Successor::FaultsLater, .. } => "F-45",
        Op::Swap { to: Successor::Lies, .. } => "F-46",
        Op::Swap { to: Successor::Untrue, .. } => "F-47",
        Op::Swap { to: Successor::Unfit, .. } => "F-48",
        _ => return None,
    })
}
