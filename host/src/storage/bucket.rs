//! A bucket of an S3-compatible object store, by its URL. Keys come from the environment, as `object_store` reads it: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_SESSION_TOKEN`, a role's files.

use std::sync::Once;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::StorageError;

/// What a URL begins with.
const SCHEME: &str = "s3://";
/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long one request may take, its object included: under the two minutes after which a write counts as unanswered.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// Tries of a request beyond the first. Few: who writes tries again by itself, with a longer backoff; these carry readers over a blip.
const RETRIES: usize = 3;
/// How long after its first try a request may be tried again.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Where in an object store segment files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    name: String,
    prefix: Key,
    endpoint: Option<String>,
}

impl Bucket {
    /// Parses `s3://bucket/prefix`; the prefix, Milvus' `rootPath`, may be missing. `endpoint` is the URL of a store that is not Amazon's.
    ///
    /// # Errors
    /// One sentence: what a URL looks like.
    pub fn parse(url: &str, endpoint: Option<&str>) -> Result<Self, String> {
        let wrong = |problem: &str| format!("{url:?} {problem}; such as s3://bucket/prefix");
        let rest = url.strip_prefix(SCHEME).ok_or_else(|| wrong("does not begin with s3://"))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(wrong("names no bucket"));
        }
        let prefix = Key::parse(prefix.trim_end_matches('/')).map_err(|e| wrong(&format!("has no good prefix: {e}")))?;
        if let Some(endpoint) = endpoint.filter(|e| !e.starts_with("http://") && !e.starts_with("https://")) {
            return Err(format!("the endpoint {endpoint:?} is no URL; such as http://127.0.0.1:9000"));
        }
        Ok(Self { name: name.to_owned(), prefix, endpoint: endpoint.map(|e| e.trim_end_matches('/').to_owned()) })
    }

    /// Returns the URL without the endpoint.
    pub fn url(&self) -> String {
        let slash = if self.prefix.as_ref().is_empty() { "" } else { "/" };
        format!("{SCHEME}{}{slash}{}", self.name, self.prefix)
    }

    /// Makes the client. Nothing is asked yet.
    pub(super) fn connect(&self) -> Result<PrefixStore<AmazonS3>, StorageError> {
        static TLS: Once = Once::new();
        // Who embeds this library may have chosen another.
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let client = ClientOptions::new().with_connect_timeout(CONNECT_MAX).with_timeout(REQUEST_MAX);
        let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(2), base: 2.0 };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.name)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_MAX })
            // One request an object: not every store knows the other way.
            .with_disable_bulk_delete(true);
        builder = match &self.endpoint {
            Some(endpoint) => {
                let client = client.with_allow_http(endpoint.starts_with("http://"));
                builder.with_client_options(client).with_endpoint(endpoint)
            }
            None => builder.with_client_options(client),
        };
        let store = builder.build().map_err(|error| StorageError::permanent(&self.to_string(), error))?;
        Ok(PrefixStore::new(store, self.prefix.clone()))
    }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url())?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_by_a_url_and_others_are_refused_with_an_example() {
        let parse = |url: &str| Bucket::parse(url, None).map(|b| b.to_string());
        assert_eq!(parse("s3://files").unwrap(), "s3://files");
        assert_eq!(parse("s3://a-bucket/files/of/mine/").unwrap(), "s3://a-bucket/files/of/mine");
        let local = Bucket::parse("s3://b/p", Some("http://127.0.0.1:9000/")).unwrap();
        assert_eq!(local.to_string(), "s3://b/p at http://127.0.0.1:9000");
        for wrong in ["", "chunks", "s3://", "s3:///p", "gs://bucket", "s3://Bucket", "s3://b/p//q"] {
            assert!(parse(wrong).unwrap_err().contains("such as s3://bucket/prefix"), "{wrong}");
        }
        assert!(Bucket::parse("s3://b", Some("127.0.0.1:9000")).unwrap_err().contains("http://127.0.0.1:9000"));
    }
}
