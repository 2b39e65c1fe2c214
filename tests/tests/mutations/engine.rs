//! Makes mutation `n` from the corpus, and judges what a decoder does with it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::memory::measured;

/// Mutations of all targets when nobody says how many.
const MUTATIONS: u64 = 200_000;
const TARGETS: u64 = 4;
const SEED: u64 = 0x7469_6465_6761_7465;
/// How long one input may take; the slowest is a few hundred times as fast in this profile.
const CALL_MAX: Duration = Duration::from_secs(20);
/// Longest input: what grows by splicing is cut, so that a run's time is a matter of its number.
const INPUT_MAX: usize = 64 << 10;
/// Largest change of a length or another number by a small step.
const STEP_MAX: u64 = 16;

/// An input is a few parts that are mutated each by itself: one for a file, several for a message.
pub type Input = Vec<Vec<u8>>;

/// A decoder, what it is fed, and what it may take.
pub struct Target {
    /// The test's name.
    pub name: &'static str,
    /// What is mutated.
    pub corpus: Vec<Input>,
    /// Bytes of memory for each byte of input.
    pub memory_times: usize,
    /// Bytes of memory beside that.
    pub memory_base: usize,
    /// Decodes, asserts what must hold of the result, and says whether there is one: only some mutations are refused.
    pub decode: fn(&Input) -> bool,
}

/// Runs a target's share of the mutations.
pub fn run(target: &Target) {
    let number = |key| std::env::var(key).ok().map(|n| n.parse::<u64>().unwrap_or_else(|e| panic!("{key}={n}: {e}")));
    let seed = number("TIDEGATE_SEED").unwrap_or(SEED);
    let (first, last) = match number("TIDEGATE_MUTATION") {
        Some(one) => (one, one + 1),
        None => (0, number("TIDEGATE_MUTATIONS").unwrap_or(MUTATIONS).div_ceil(TARGETS)),
    };
    println!("{}: TIDEGATE_SEED={seed}, mutations {first} to {last} of {} inputs", target.name, target.corpus.len());
    note_panics();
    let (began, mut largest) = (Instant::now(), (0, 0, 0));
    let mut accepted = 0;
    let watch = Watch::default();
    std::thread::scope(|scope| {
        scope.spawn(|| watch.over(target.name, seed));
        // The watch must end even when an input is refused.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for n in first..last {
                let input = mutation(&target.corpus, seed, n);
                watch.begin(n);
                let (decoded, peak) = judge(target, seed, n, &input);
                accepted += u64::from(decoded);
                if peak > largest.0 {
                    largest = (peak, size(&input), n);
                }
            }
        }));
        watch.end();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    let (peak, bytes, n) = largest;
    println!(
        "{}: {} mutations, {accepted} decoded, in {:.1?}; most memory {peak} bytes, for {bytes} bytes of input (mutation {n})",
        target.name,
        last - first,
        began.elapsed()
    );
}

fn judge(target: &Target, seed: u64, n: u64, input: &Input) -> (bool, usize) {
    let line = repeat(target.name, seed, n);
    let (outcome, peak) = measured(limit(target, input), &line, || catch_unwind(AssertUnwindSafe(|| (target.decode)(input))));
    match outcome {
        Ok(decoded) if !PANICKED.take() => (decoded, peak),
        Ok(_) => panic!("a panic that became an error; {line}"),
        Err(panic) => {
            println!("a panic; {line}");
            std::panic::resume_unwind(panic)
        }
    }
}

/// Bytes that decoding an input may take.
pub fn limit(target: &Target, input: &Input) -> usize {
    target.memory_base + target.memory_times * size(input)
}

/// Bytes of an input.
pub fn size(input: &Input) -> usize {
    input.iter().map(Vec::len).sum()
}

fn repeat(name: &str, seed: u64, n: u64) -> String {
    format!("repeat it: TIDEGATE_SEED={seed} TIDEGATE_MUTATION={n} cargo test -p tidegate-tests --test mutations {name} -- --nocapture\n")
}

thread_local! {
    /// Whether this thread panicked, even if somebody caught it.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Makes panics known that the reader turns into errors: it may shield foreign code, but there is to be nothing to shield.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
}

/// Ends the process when an input takes too long: a decoder that hangs cannot be asked to stop.
struct Watch {
    /// Number of the input, and the milliseconds at which it was begun; `u64::MAX` for the end.
    input: AtomicU64,
    begun_ms: AtomicU64,
    clock: Instant,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { input: AtomicU64::new(0), begun_ms: AtomicU64::new(0), clock: Instant::now() }
    }
}

impl Watch {
    fn now_ms(&self) -> u64 {
        self.clock.elapsed().as_millis() as u64
    }

    fn begin(&self, n: u64) {
        self.input.store(n, Ordering::Relaxed);
        self.begun_ms.store(self.now_ms(), Ordering::Release);
    }

    fn end(&self) {
        self.begun_ms.store(u64::MAX, Ordering::Release);
    }

    fn over(&self, name: &str, seed: u64) {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let begun = self.begun_ms.load(Ordering::Acquire);
            if begun == u64::MAX {
                return;
            }
            if self.now_ms().saturating_sub(begun) > CALL_MAX.as_millis() as u64 {
                eprintln!("over {CALL_MAX:?}; {}", repeat(name, seed, self.input.load(Ordering::Relaxed)));
                std::process::abort();
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    /// A number that decoders stumble over.
    fn interesting(&mut self) -> u64 {
        const NUMBERS: [u64; 16] =
            [0, 1, 2, 7, 8, 127, 128, 255, 256, 1 << 16, (1 << 31) - 1, 1 << 31, u32::MAX as u64, 1 << 32, i64::MAX as u64, u64::MAX];
        match self.below(3) {
            0 => self.next() >> self.below(64),
            _ => NUMBERS[self.below(NUMBERS.len())],
        }
    }
}

/// Mutation `n`: an input of the corpus, changed one to four times.
fn mutation(corpus: &[Input], seed: u64, n: u64) -> Input {
    let mut random = Random(Random(seed ^ n).next());
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(4) {
        let part = random.below(input.len());
        let donor = &corpus[random.below(corpus.len())];
        let other = donor.get(part).map_or(&[][..], Vec::as_slice);
        change(&mut input[part], other, &mut random);
        input[part].truncate(INPUT_MAX);
    }
    input
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(12) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 if !bytes.is_empty() => bytes[at] = random.interesting() as u8,
        3 => bytes.truncate(at),
        4 => {
            let end = at + random.below(bytes.len() - at + 1).min(64);
            drop(bytes.drain(at..end));
        }
        5 => {
            let noise: Vec<u8> = (0..1 + random.below(16)).map(|_| random.next() as u8).collect();
            drop(bytes.splice(at..at, noise));
        }
        // The front of one, the back of another.
        6 => {
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        // A piece of another, over as many bytes or between two.
        7 => {
            let from = random.below(other.len());
            let piece = &other[from..from + random.below(other.len() - from + 1).min(128)];
            let end = if random.below(2) == 0 { at } else { (at + piece.len()).min(bytes.len()) };
            drop(bytes.splice(at..end, piece.iter().copied()));
        }
        // A piece of its own, again.
        8 => {
            let piece = bytes[at..at + random.below(bytes.len() - at + 1).min(256)].to_vec();
            for _ in 0..1 + random.below(8) {
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
        }
        9 => change_length(bytes, at, random),
        10 => change_varint(bytes, at, random),
        // Digits, as texts and JSON have them.
        _ => match bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
            Some(digit) => drop(bytes.splice(at + digit..at + digit + 1, random.interesting().to_string().into_bytes())),
            None => bytes.extend_from_slice(&random.next().to_le_bytes()),
        },
    }
}

/// A fixed-width integer, as event headers and footers have it.
fn change_length(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = [2, 4, 8][random.below(3)];
    let Some(field) = bytes.get_mut(at..at + width) else { return };
    let mut number = [0; 8];
    number[..width].copy_from_slice(field);
    let old = u64::from_le_bytes(number);
    let new = match random.below(3) {
        0 => random.interesting(),
        1 => old.wrapping_add(1 + random.next() % STEP_MAX),
        _ => old.wrapping_sub(1 + random.next() % STEP_MAX),
    };
    field.copy_from_slice(&new.to_le_bytes()[..width]);
}

/// A variable-length integer, as protobuf and thrift have it: read from `at`, written back as another.
fn change_varint(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let length = bytes[at..].iter().take(10).take_while(|byte| **byte > 127).count() + 1;
    let end = (at + length).min(bytes.len());
    let old = bytes[at..end].iter().rev().fold(0_u64, |n, byte| n << 7 | u64::from(byte & 127));
    let mut new = match random.below(3) {
        0 => random.interesting(),
        1 => old.wrapping_add(1 + random.next() % STEP_MAX),
        _ => old.wrapping_sub(1 + random.next() % STEP_MAX),
    };
    let mut varint = Vec::new();
    while new > 127 {
        varint.push(new as u8 | 128);
        new >>= 7;
    }
    varint.push(new as u8);
    drop(bytes.splice(at..end, varint));
}

#[test]
fn a_mutation_is_a_function_of_its_seed_and_number() {
    let corpus = [vec![(0..200).collect::<Vec<u8>>()], vec![b"{\"n\": 17}".to_vec()]];
    let run = |seed| (0..500).map(|n| mutation(&corpus, seed, n)).collect::<Vec<_>>();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let changed = run(1).iter().filter(|input| !corpus.contains(input)).count();
    assert!(changed > 450, "{changed} of 500 differ from the corpus");
}
