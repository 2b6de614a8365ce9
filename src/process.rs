//! What the system may do to this process, which holds keys and an ID token in memory.

use std::sync::Arc;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use signal_hook::consts::SIGXFSZ;

/// Switches core files off, and makes memory and environment unreadable for other processes of the same user: no
/// debugger can attach, and `/proc/<pid>` belongs to root. A core file would hold the ID token and the private keys, and
/// would be written to the clone directory, where artifacts may take it.
///
/// Also turns the signal for a file that grows beyond `ulimit -f` into an error of the write, so that what was written so
/// far is removed.
///
/// The calls need no privileges. A sandbox that forbids them forbids nothing that the program needs, so a failure is
/// ignored.
pub(crate) fn protect() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}
