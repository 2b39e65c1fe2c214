//! What a log stores and returns.

use bytes::Bytes;
use prost::Message as _;

use crate::id::MessageId;
use crate::properties::Properties;
use crate::proto::messages;

/// One record of a log, not yet read as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub id: MessageId,
    /// The body's protobuf.
    pub payload: Bytes,
    /// Everything else.
    pub properties: Properties,
}

impl Record {
    /// Returns Milvus' estimated size in bytes: payload, keys and values.
    pub fn size(&self) -> usize {
        estimated_size(&self.payload, &self.properties)
    }
}

/// Returns payload, keys and values in bytes.
pub(crate) fn estimated_size(payload: &Bytes, properties: &Properties) -> usize {
    payload.len() + properties.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
}

/// The bytes are not a stored record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stored record: {0}")]
pub struct RecordError(#[from] prost::DecodeError);

/// Returns a record's content as one `messages.Message` protobuf: the form for logs that keep no properties of their own.
pub fn encode_record(payload: Bytes, properties: &Properties) -> Vec<u8> {
    messages::Message { payload, properties: properties.clone() }.encode_to_vec()
}

/// Reads what [`encode_record`] wrote.
///
/// # Errors
/// [`RecordError`] if the bytes are not a `messages.Message`.
pub fn decode_record(bytes: &[u8]) -> Result<(Bytes, Properties), RecordError> {
    let message = messages::Message::decode(bytes)?;
    Ok((message.payload, message.properties))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_record_reads_back() {
        let properties = Properties::from([("_v".to_owned(), "1".to_owned()), ("trace".to_owned(), String::new())]);
        let bytes = encode_record(Bytes::from_static(b"body"), &properties);
        assert_eq!(decode_record(&bytes), Ok((Bytes::from_static(b"body"), properties.clone())));
        assert!(decode_record(&bytes[..bytes.len() - 1]).is_err());
        let record = Record { id: MessageId::Test(1), payload: Bytes::from_static(b"body"), properties };
        assert_eq!(record.size(), 4 + 2 + 1 + 5);
    }
}
