//! Programs with a clock that is off.

use std::path::{Path, PathBuf};
use std::process::Child;

/// The library that fakes a clock; and the system's own after it, whose allocator stands in for one that asks the time
/// while it starts.
pub(crate) fn library() -> String {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|folder| folder.path());
    let found = libraries
        .chain([PathBuf::from("/usr/lib")])
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|library| library.exists());
    let faking = found.expect("libfaketime is needed (Debian package faketime)");
    let folder = faking.ancestors().nth(2).unwrap();
    format!("{}:{}", faking.display(), folder.join("libc.so.6").display())
}

/// Kills it, if it has not ended already, and removes what the library keeps of a process in shared memory until it ends
/// by itself: the next one of its id would not start.
pub(crate) fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
    let memory = Path::new("/dev/shm");
    for name in ["faketime_shm", "sem.faketime_sem"] {
        let _ = std::fs::remove_file(memory.join(format!("{name}_{}", child.id())));
    }
}
