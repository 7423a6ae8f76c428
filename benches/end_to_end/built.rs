//! The build that runs in production, as far as `packaging/build` has made it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/production/countersign");
/// What it is made of.
const SOURCES: [&str; 5] = ["Cargo.toml", "Cargo.lock", "build.rs", "src", "config"];

/// The program, if it is there and no older than what it is made of; says so where it is not.
pub(crate) fn for_production() -> io::Result<Option<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let why = match std::fs::metadata(PROGRAM) {
        Err(_) => "is not there",
        Ok(built) => {
            let mut latest = SystemTime::UNIX_EPOCH;
            for source in SOURCES {
                latest = latest.max(changed(&root.join(source))?);
            }
            if built.modified()? >= latest {
                return Ok(Some(PROGRAM.into()));
            }
            "is older than the sources"
        }
    };
    let mut out = io::stdout().lock();
    writeln!(out, "The production build {why}: with it, run `packaging/build` before.")?;
    Ok(None)
}

/// When a file, or the last of a folder, was changed.
fn changed(path: &Path) -> io::Result<SystemTime> {
    let about = std::fs::metadata(path)?;
    let mut latest = about.modified()?;
    if about.is_dir() {
        for entry in std::fs::read_dir(path)? {
            latest = latest.max(changed(&entry?.path())?);
        }
    }
    Ok(latest)
}
