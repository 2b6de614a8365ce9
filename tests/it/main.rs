//! User stories, against a [`testcluster`]: the real binary, real TLS, real gRPC, the system's own OpenSSH.
//!
//! Each file has the stories of one subject. They share `step.rs`, and `harness.rs` runs them. Printed and rendered
//! texts are compared with `golden/`; `UPDATE_EXPECT=1 cargo test --test it` writes these files again.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a story that cannot continue has failed, and a story may print how long it took"
)]
#![deny(dead_code, reason = "a story that is not registered would never run")]

mod cleanup;
mod clients;
mod clock;
mod command_line;
mod destination;
mod doctor;
mod documented;
mod example_file;
mod examples;
mod failure;
mod faults;
mod forward_proxy;
mod guard;
mod harness;
mod hostile;
mod inspect;
mod inspect_files;
mod inspect_labels;
mod inspect_terraform;
mod join;
mod json;
mod killed;
mod layouts;
mod leaf_clusters;
mod load_balancers;
mod machine;
mod metadata;
mod names;
mod network;
mod nodes;
mod one_time_tokens;
mod output;
mod platforms;
mod process;
mod proxy_command;
mod recipes;
mod recording;
mod refusals;
mod remapped;
mod rendered;
mod resolver;
mod rotation;
mod secrets;
mod ssh_faults;
mod step;
mod tbot_yaml;
mod troubleshooting;
mod user_namespace;

/// All stories.
fn stories() -> Vec<libtest_mimic::Trial> {
    let files = [
        cleanup::stories(),
        clients::stories(),
        clock::stories(),
        command_line::stories(),
        destination::stories(),
        doctor::stories(),
        documented::stories(),
        examples::stories(),
        faults::stories(),
        forward_proxy::stories(),
        guard::stories(),
        hostile::stories(),
        inspect::stories(),
        inspect_files::stories(),
        inspect_labels::stories(),
        inspect_terraform::stories(),
        join::stories(),
        json::stories(),
        killed::stories(),
        layouts::stories(),
        leaf_clusters::stories(),
        load_balancers::stories(),
        metadata::stories(),
        names::stories(),
        network::stories(),
        nodes::stories(),
        process::stories(),
        one_time_tokens::stories(),
        platforms::stories(),
        proxy_command::stories(),
        recipes::stories(),
        recording::stories(),
        refusals::stories(),
        rendered::stories(),
        resolver::stories(),
        rotation::stories(),
        secrets::stories(),
        ssh_faults::stories(),
        tbot_yaml::stories(),
        user_namespace::stories(),
    ];
    files.into_iter().flatten().collect()
}

fn main() -> std::process::ExitCode {
    harness::run(stories())
}
