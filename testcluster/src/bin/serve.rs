//! A cluster for a pipeline of this project: runs until it is ended, and leaves what a step needs.
//!
//!     serve NAME    # the name under which containers reach this machine
//!
//! Writes `testcluster.pem`, its web authority, and then `testcluster.env` into the working directory: variables for the
//! shell, with the ID token of a step that its identity provider has signed.

#![allow(clippy::print_stderr, reason = "a program for a script")]

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::{fs, io, thread};

use testcluster::Testcluster;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        eprintln!("usage: serve NAME");
        return ExitCode::from(2);
    };
    let Err(error) = serve(&name);
    eprintln!("serve: {error}");
    ExitCode::FAILURE
}

fn serve(name: &str) -> io::Result<std::convert::Infallible> {
    let cluster = Testcluster::builder().listen(Ipv4Addr::UNSPECIFIED).public_name(name).start();
    fs::copy(cluster.web_ca_file(), "testcluster.pem")?;
    let (proxy, token, id_token) = (cluster.proxy_addr(), cluster.token_name(), cluster.step_token());
    let node = format!("{}@{}", cluster.node_login(), cluster.node_host());
    let variables = format!("export PROXY_SERVER='{proxy}' TOKEN='{token}' STEP_TOKEN='{id_token}' NODE='{node}'\n");
    // By a rename, so that nobody reads half of it.
    fs::write("testcluster.env.part", variables)?;
    fs::rename("testcluster.env.part", "testcluster.env")?;
    loop {
        thread::park();
    }
}
