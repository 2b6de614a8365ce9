//! The program `teleport-pipe`.

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    teleport_pipe::main()
}
