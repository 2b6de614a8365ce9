//! How the proxy's name is resolved.

use crate::docker::gateway;
use crate::harness::stories;
use crate::images::IMAGE;
use crate::name_server::NameServer;
use crate::step::{self, Step};

stories! {
    answers_that_are_too_long_for_udp_arrive_over_tcp needs IMAGE,
}

fn answers_that_are_too_long_for_udp_arrive_over_tcp() {
    let cluster = step::cluster();
    let server = NameServer::start(gateway());
    let step = Step::new(&cluster).network(&[format!("--dns={}", gateway())]);
    step.pipe().ok();
    let (udp, tcp) = server.queries();
    assert!(udp > 0 && tcp > 0, "{udp} queries over UDP, {tcp} over TCP");
    // The ProxyCommand resolves the name in the same way, in the step's container.
    step.hello(&cluster);
    assert!(server.queries().1 > tcp);
}
