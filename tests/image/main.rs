//! Runs the image as Bitbucket runs a pipe, and then the rest of the step's script in another container that has only a
//! shell and OpenSSH. The [`testcluster`] is outside of both containers.
//!
//! `make image-test` builds the image, starts an engine if none runs (`engine`), and runs these tests. They are ignored
//! otherwise.

#![allow(clippy::unwrap_used, reason = "a story that cannot continue has failed")]
#![deny(dead_code, reason = "a story that is not registered would never run")]

mod arm64;
mod clone_directory;
mod content;
mod docker;
mod emulator;
#[path = "../it/example_file.rs"]
mod example_file;
mod examples;
#[path = "../it/harness.rs"]
mod harness;
mod images;
mod name_server;
mod names;
#[path = "../it/output.rs"]
mod output;
mod pipe_line;
#[path = "../it/remapped.rs"]
mod remapped;
mod step;
mod step_image;
mod users;

fn main() -> std::process::ExitCode {
    let files = [
        arm64::stories(),
        clone_directory::stories(),
        content::stories(),
        emulator::stories(),
        examples::stories(),
        names::stories(),
        users::stories(),
    ];
    harness::run(files.into_iter().flatten().collect())
}
