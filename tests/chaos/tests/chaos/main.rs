//! The real `tidegate` as a process under real faults; `docs/chaos.md` says what is played and what is asserted.

mod disk;
mod kill;
mod soak;
mod stopped;
mod storage;
