//! Test code: an object store on loopback that speaks as much of S3 as `object_store` asks of it, and fails by chance or on command. It
//! checks no signatures.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /bucket/key`, also `If-None-Match: *` | 200, 412 |
//! | `GET`, `HEAD /bucket/key`, also `Range: bytes=a-b` | 200, 206, 404 |
//! | `DELETE /bucket/key` | 204 |
//! | `GET /bucket?list-type=2&prefix=…&continuation-token=…` | 200, pages of 50 |

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::random::Random;

/// Objects of a page of a listing.
const PAGE: usize = 50;
/// How long the slowest answer takes, and a little more.
pub const SLOW_MAX: Duration = Duration::from_millis(3_500);
/// How many of the youngest objects a listing that is out of date does not show.
const STALE: u64 = 12;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection is reset, and nothing was done.
    Reset,
    /// What was asked for is done, and the connection reset instead of an answer.
    ResetAfter,
    /// Half of an object, then the end of the connection.
    HalfABody,
    /// The answer comes after one to three seconds.
    Slow,
    /// 503 for this request and the five that follow: longer than the client itself tries again.
    Busy,
    /// A listing without the youngest objects.
    StaleList,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 6] = [Fault::Reset, Fault::ResetAfter, Fault::HalfABody, Fault::Slow, Fault::Busy, Fault::StaleList];
}

/// How the store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// One request in `one_in` meets a fault, of those that read three times as many.
    Stormy {
        /// The odds.
        one_in: u64,
    },
    /// Every write gets 507.
    Full,
    /// Every connection is reset.
    Gone,
}

struct Object {
    bytes: Vec<u8>,
    /// The how many-eth write it was.
    nth: u64,
}

struct State {
    objects: BTreeMap<String, Object>,
    writes: u64,
    mood: Mood,
    random: Random,
    busy: u32,
    met: BTreeMap<Fault, u64>,
    refused_writes: u64,
}

/// A store that serves until the process ends.
pub struct S3 {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

impl S3 {
    /// Starts one that is well.
    pub fn start(random: Random) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (objects, met) = (BTreeMap::new(), BTreeMap::new());
        let state = State { objects, writes: 0, mood: Mood::Well, random, busy: 0, met, refused_writes: 0 };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                // A connection that ends, ends.
                thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { endpoint, state }
    }

    /// What a node needs in its environment to use it.
    pub fn env(&self) -> [(&'static str, &'static str); 4] {
        [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// The settings of a node that uses it, as its `tidegate.toml` says them.
    pub fn settings(&self, url: &str) -> String {
        format!("storage = \"{url}\"\nstorage_endpoint = \"{}\"\n", self.endpoint)
    }

    /// Changes how it behaves.
    pub fn set(&self, mood: Mood) {
        let mut state = lock(&self.state);
        (state.mood, state.busy) = (mood, 0);
    }

    /// How often each fault was met.
    pub fn met(&self) -> BTreeMap<Fault, u64> {
        lock(&self.state).met.clone()
    }

    /// Writes that were refused for want of space.
    pub fn refused_writes(&self) -> u64 {
        lock(&self.state).refused_writes
    }

    /// The keys it holds, the bucket first.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.state).objects.keys().cloned().collect()
    }

    /// Puts an object there, as somebody else would.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        lock(&self.state).put(key, bytes.to_vec());
    }
}

impl State {
    fn put(&mut self, key: &str, bytes: Vec<u8>) {
        self.writes += 1;
        self.objects.insert(key.to_owned(), Object { bytes, nth: self.writes });
    }

    /// What goes wrong with a request.
    fn fault(&mut self, request: &Request) -> Option<Fault> {
        let Mood::Stormy { one_in } = self.mood else { return None };
        if self.busy > 0 {
            self.busy -= 1;
            return Some(Fault::Busy);
        }
        // Listings and reads are rare, so they fail more often.
        let is_list = request.query.iter().any(|(name, _)| name == "list-type");
        let one_in = if request.method == "GET" { one_in / 3 } else { one_in };
        if self.random.below(one_in) > 0 {
            return None;
        }
        let fits = |fault: &Fault| match fault {
            Fault::HalfABody => request.method == "GET" && !is_list,
            Fault::StaleList => is_list,
            Fault::ResetAfter => request.method == "PUT" || request.method == "DELETE",
            Fault::Reset | Fault::Slow | Fault::Busy => true,
        };
        let fitting: Vec<Fault> = Fault::ALL.into_iter().filter(fits).collect();
        let mut fault = fitting[self.random.below(fitting.len() as u64) as usize];
        // What only reads and listings can meet is met there every other time.
        if request.method == "GET" && self.random.below(2) == 0 {
            fault = if is_list { Fault::StaleList } else { Fault::HalfABody };
        }
        *self.met.entry(fault).or_default() += 1;
        self.busy = if fault == Fault::Busy { 5 } else { 0 };
        Some(fault)
    }
}

struct Request {
    method: String,
    key: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    while let Some(request) = read(&mut input)? {
        let (fault, pause_ms, mood) = {
            let mut state = lock(state);
            let fault = state.fault(&request);
            (fault, 1_000 + state.random.below(2_000), state.mood)
        };
        if mood == Mood::Gone || fault == Some(Fault::Reset) {
            return reset(stream);
        }
        if fault == Some(Fault::Slow) {
            thread::sleep(Duration::from_millis(pause_ms));
        }
        let response = match fault {
            Some(Fault::Busy) => error("503 Service Unavailable", "SlowDown"),
            _ => answer(&mut lock(state), &request, fault == Some(Fault::StaleList)),
        };
        if fault == Some(Fault::ResetAfter) {
            return reset(stream);
        }
        let head = format!("HTTP/1.1 {}\r\n", response.status);
        let headers: String = response.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length =
            if response.status.starts_with("204") { String::new() } else { format!("Content-Length: {}\r\n", response.body.len()) };
        let body = if request.method == "HEAD" { &[][..] } else { &response.body };
        let mut output = stream;
        output.write_all(format!("{head}{headers}{length}\r\n").as_bytes())?;
        if fault == Some(Fault::HalfABody) {
            output.write_all(&body[..body.len() / 2])?;
            return reset(stream);
        }
        output.write_all(body)?;
    }
    Ok(())
}

/// Ends a connection so that the other side gets an error.
fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

fn read(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    Ok(Some(Request { method, key: decoded(path.trim_start_matches('/')), query, headers, body }))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn error(status: &'static str, code: &str) -> Response {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>");
    Response { status, headers: vec![("Content-Type", "application/xml".into())], body: body.into_bytes() }
}

fn answer(state: &mut State, request: &Request, stale: bool) -> Response {
    let tag = |object: &Object| ("ETag", format!("\"{}\"", object.nth));
    match request.method.as_str() {
        "PUT" if state.mood == Mood::Full => {
            state.refused_writes += 1;
            error("507 Insufficient Storage", "InsufficientStorage")
        }
        "PUT" if request.headers.contains_key("if-none-match") && state.objects.contains_key(&request.key) => {
            error("412 Precondition Failed", "PreconditionFailed")
        }
        "PUT" => {
            state.put(&request.key, request.body.clone());
            Response { status: "200 OK", headers: vec![tag(&state.objects[&request.key])], body: Vec::new() }
        }
        "DELETE" => {
            state.objects.remove(&request.key);
            Response { status: "204 No Content", headers: Vec::new(), body: Vec::new() }
        }
        _ if request.query.iter().any(|(name, _)| name == "list-type") => list(state, request, stale),
        _ => {
            let Some(object) = state.objects.get(&request.key) else { return error("404 Not Found", "NoSuchKey") };
            let mut headers =
                vec![tag(object), ("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT".into()), ("Accept-Ranges", "bytes".into())];
            let Some(range) = request.headers.get("range").and_then(|r| r.strip_prefix("bytes=")) else {
                return Response { status: "200 OK", headers, body: object.bytes.clone() };
            };
            let (first, last) = range.split_once('-').unwrap_or((range, ""));
            let first = first.parse::<usize>().unwrap_or(0).min(object.bytes.len());
            let end = last.parse::<usize>().map_or(object.bytes.len(), |last| (last + 1).min(object.bytes.len()));
            headers.push(("Content-Range", format!("bytes {first}-{}/{}", end.saturating_sub(1), object.bytes.len())));
            Response { status: "206 Partial Content", headers, body: object.bytes[first..end.max(first)].to_vec() }
        }
    }
}

fn list(state: &State, request: &Request, stale: bool) -> Response {
    let named = |wanted: &str| request.query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default();
    let bucket = format!("{}/", request.key.trim_end_matches('/'));
    let (prefix, after) = (named("prefix"), named("continuation-token"));
    let newest = if stale { state.writes.saturating_sub(STALE) } else { u64::MAX };
    let mut found = state
        .objects
        .iter()
        .filter_map(|(key, object)| Some((key.strip_prefix(&bucket)?, object)))
        .filter(|(key, object)| key.starts_with(&prefix) && *key > after.as_str() && object.nth <= newest);
    let mut contents = String::new();
    let mut last = String::new();
    for (key, object) in found.by_ref().take(PAGE) {
        contents += &format!(
            "<Contents><Key>{key}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified><ETag>\"{}\"</ETag><Size>{}</Size></Contents>",
            object.nth,
            object.bytes.len()
        );
        last = key.to_owned();
    }
    let more = found.next().is_some();
    let next = if more { format!("<NextContinuationToken>{last}</NextContinuationToken>") } else { String::new() };
    let body = format!("<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{more}</IsTruncated>{next}{contents}</ListBucketResult>");
    Response { status: "200 OK", headers: vec![("Content-Type", "application/xml".into())], body: body.into_bytes() }
}
