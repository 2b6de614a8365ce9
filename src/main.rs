//! The program `teleport-pipe`.

fn main() -> std::process::ExitCode {
    teleport_pipe::main()
}
