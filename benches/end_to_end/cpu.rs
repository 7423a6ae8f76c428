//! The CPU time of processes, as the kernel counts it, and the core that each may use.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Lets every thread of `process`, present and to come, run on `core` alone.
pub(crate) fn pin(process: u32, core: usize) -> io::Result<()> {
    let (core, process) = (core.to_string(), process.to_string());
    let pinned = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &core, &process])
        .output()?;
    if pinned.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&pinned.stderr).trim().to_owned();
    Err(io::Error::other(format!("cannot pin process {process} to core {core}: {said}")))
}

/// A command that runs on `core` alone.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// `root` and all that descend from it.
pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(process) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = after_name(&stat).nth(1).and_then(|parent| parent.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (process, parent)));
    }
    let mut all = vec![root];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        all.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    Ok(all)
}

/// CPU time that the living threads of `processes` have taken, in user and kernel mode.
pub(crate) fn used(processes: &[u32]) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for process in processes {
        for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
            sum += of_thread(&thread?.path())?;
        }
    }
    Ok(sum)
}

/// By the scheduler's count of nanoseconds, or by that of hundredths of a second where it keeps none.
fn of_thread(thread: &Path) -> io::Result<Duration> {
    let exact = std::fs::read_to_string(thread.join("schedstat")).ok();
    let nanos = exact.and_then(|text| text.split_whitespace().next()?.parse().ok());
    if let Some(nanos) = nanos {
        return Ok(Duration::from_nanos(nanos));
    }
    let stat = std::fs::read_to_string(thread.join("stat"))?;
    let ticks = after_name(&stat).skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

/// The fields of a `stat` file from the third on: the name before them may hold spaces.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}
