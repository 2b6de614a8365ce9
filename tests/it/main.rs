//! User stories, against a [`testcluster`]: the real binary, real TLS, real gRPC, the system's own OpenSSH.
//!
//! Each file has the stories of one subject. `step.rs` is what they share, `harness.rs` runs them. What is printed or
//! rendered is held against `golden/`; `UPDATE_EXPECT=1 cargo test --test it` writes it anew.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a story that cannot go on has failed, and may say how long it took"
)]
#![deny(dead_code, reason = "a story that is not registered would never run")]

mod balancers;
mod cleanup;
mod clock;
mod doctor;
mod documented;
mod failure;
mod faults;
mod guard;
mod harness;
mod inspect;
mod killed;
mod layouts;
mod leafs;
mod machine;
mod main_job;
mod metadata;
mod network;
mod nodes;
mod place;
mod proxy_command;
mod recipes;
mod recording;
mod refusals;
mod rendered;
mod resolver;
mod rotation;
mod said;
mod secrets;
mod ssh_weather;
mod step;
mod way_out;

/// All stories.
fn stories() -> Vec<libtest_mimic::Trial> {
    let files = [
        balancers::stories(),
        cleanup::stories(),
        clock::stories(),
        doctor::stories(),
        documented::stories(),
        faults::stories(),
        guard::stories(),
        inspect::stories(),
        killed::stories(),
        layouts::stories(),
        leafs::stories(),
        main_job::stories(),
        metadata::stories(),
        network::stories(),
        nodes::stories(),
        place::stories(),
        proxy_command::stories(),
        recipes::stories(),
        recording::stories(),
        refusals::stories(),
        rendered::stories(),
        resolver::stories(),
        rotation::stories(),
        secrets::stories(),
        ssh_weather::stories(),
        way_out::stories(),
    ];
    files.into_iter().flatten().collect()
}

fn main() -> std::process::ExitCode {
    harness::run(stories())
}
