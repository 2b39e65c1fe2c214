//! The same seed gives the same trace, byte for byte; and the built component gives the trace of the native logic.

mod component;

use std::ops::ControlFlow;

use tidegate_sim::generate::{Weather, generate};
use tidegate_sim::native::{Guests, Native};
use tidegate_sim::run::Seeds;
use tidegate_sim::world::World;

/// The whole trace of a seed, its hash, and how it ended.
fn trace(seed: u64, guests: &dyn Guests) -> (Vec<String>, u64, String) {
    let scenario = generate(seed, Weather::Any);
    let mut world = World::new(&scenario, guests);
    world.trace.lines = Some(Vec::new());
    let ended = format!("{:?}", world.run());
    (world.trace.lines.take().unwrap_or_default(), world.trace.hash(), ended)
}

fn assert_same(seed: u64, first: &dyn Guests, second: &dyn Guests) {
    let (a, b) = (trace(seed, first), trace(seed, second));
    if let Some(at) = a.0.iter().zip(&b.0).position(|(a, b)| a != b) {
        panic!("seed {seed}: line {at} differs\n{}\n{}", a.0[at], b.0[at]);
    }
    assert_eq!((a.0.len(), a.1, a.2), (b.0.len(), b.1, b.2), "seed {seed}");
}

#[test]
fn a_seed_gives_its_trace_twice() {
    each(Seeds::first(200), &Native);
}

#[test]
fn the_component_gives_the_trace_of_the_native_logic() {
    each(Seeds::first(300), &component::Built::load());
}

fn each(seeds: Seeds, second: &(dyn Guests + Sync)) {
    println!("seeds from {} on, {} of them", seeds.first, seeds.count);
    seeds.each(|seed| {
        assert_same(seed, &Native, second);
        ControlFlow::Continue(())
    });
}
