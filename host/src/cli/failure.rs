//! Errors at the edge: one sentence, and an exit code.

use crate::admin::Answered;
use crate::node::NodeError;
use crate::tables::TableError;
use crate::wal::LogError;

/// What was asked for makes no sense; nothing was written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub String);

/// Returns the exit code of a failure: 2 when the input is at fault, else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(answered) = cause.downcast_ref::<Answered>() {
        return Some(answered.code);
    }
    let ours = match cause.downcast_ref::<NodeError>() {
        Some(
            NodeError::UnknownCollection { .. }
            | NodeError::UnknownPartition { .. }
            | NodeError::Foreign { .. }
            | NodeError::Missing { .. }
            | NodeError::Held { .. }
            | NodeError::Invalid(_)
            | NodeError::Engine(_)
            | NodeError::Log(LogError::Invalid(_)),
        ) => true,
        Some(_) => false,
        None => matches!(cause.downcast_ref(), Some(TableError::Refused { .. })) || cause.is::<BadInput>(),
    };
    ours.then_some(2)
}

/// Returns a failure and its causes as one sentence; a cause that the sentence has already is not repeated.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !sentence.contains(&cause) {
            let joint = if sentence.is_empty() { "" } else { ": " };
            sentence = format!("{sentence}{joint}{cause}");
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_are_joined_once_and_the_code_is_found_among_them() {
        let error = Err::<(), _>(NodeError::Invalid("no pchannel knows it".into())).context("explain").unwrap_err();
        assert_eq!(sentence(&error), "explain: no pchannel knows it");
        assert_eq!(exit_code(&error), 2);
        assert_eq!(exit_code(&NodeError::Log(LogError::Invalid("an append of 1 GB".into())).into()), 2);
        assert_eq!(exit_code(&NodeError::Log(LogError::Closed).into()), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("a disk is full")), 1);
        assert_eq!(exit_code(&TableError::Unwritable { file: "f".into(), problem: "p".into() }.into()), 1);
        assert_eq!(exit_code(&Answered { message: "m".into(), code: 2 }.into()), 2);
    }
}
