//! Memory of a process, as the kernel counts it.

/// What a process has in memory now, in bytes.
pub fn resident(pid: u32) -> u64 {
    kib(&read(pid, "status"), "VmRSS:")
}

/// Of that, what no other process has and no file backs, in bytes.
pub fn anonymous(pid: u32) -> u64 {
    kib(&read(pid, "smaps_rollup"), "Anonymous:")
}

fn read(pid: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a living process")
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|l| l.starts_with(name)).expect("the kernel counts it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}
