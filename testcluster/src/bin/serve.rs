//! A cluster for a pipeline of this project. It runs until it is killed.
//!
//!     serve NAME    # the name by which containers reach this machine
//!
//! It writes two files into the working directory: first `testcluster.pem`, the authority of its web certificate, and
//! then
//! `testcluster.env`, shell variables with a valid ID token among them.

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
    // Renamed, so that the script never reads half of the file.
    fs::write("testcluster.env.part", variables)?;
    fs::rename("testcluster.env.part", "testcluster.env")?;
    loop {
        thread::park();
    }
}
