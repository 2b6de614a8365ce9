//! `GET /webapi/find` (docs/protocol.md, "Discovery").

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::hostile::Lie;
use crate::layout;
use crate::suite::{Suite, SuiteInFind};

/// Where a proxy behind a load balancer listens, in a network that clients cannot reach.
const INTERNAL: &str = "10.0.0.10:3080";

/// The body of the response.
pub(super) fn body(cluster: &Cluster) -> Value {
    let options = &cluster.options;
    // These keys are always present, with empty values.
    let mut auth = json!({
        "type": "",
        "private_key_policy": "",
        "piv_slot": "",
        "device_trust": {},
        "has_motd": false,
        "default_session_ttl": "0s",
    });
    match options.suite_in_find {
        SuiteInFind::Text if options.suite != Suite::Unspecified => {
            auth["signature_algorithm_suite"] = options.suite.text().into();
        }
        SuiteInFind::Number => auth["signature_algorithm_suite"] = options.suite.number().into(),
        SuiteInFind::Text | SuiteInFind::Absent => {}
    }
    let mut body = json!({
        "auth": auth,
        "proxy": {
            "kube": {},
            "ssh": addresses(cluster),
            "db": {},
            "tls_routing_enabled": cluster.ports.own.is_none(),
        },
        "server_version": options.version,
        "min_client_version": options.min_client_version,
        "cluster_name": options.name,
        "automatic_upgrades": false,
        "auto_update": {
            "tools_version": options.version,
            "tools_auto_update": false,
            "agent_version": options.version,
            "agent_auto_update": false,
            "agent_update_jitter_seconds": 60,
        },
        "edition": "community",
        "fips": false,
    });
    cluster.lies.apply(&mut body, |lie| if let Lie::Find(change) = lie { Some(change) } else { None });
    body
}

/// `proxy.ssh`, for one port or for three (docs/protocol.md, "Addresses").
fn addresses(cluster: &Cluster) -> Value {
    let options = &cluster.options;
    let listen = |port| SocketAddr::new(options.address, port).to_string();
    let public = |port| layout::address(&options.public_name, port);
    let web = if options.load_balancer.is_some() { INTERNAL.to_owned() } else { listen(cluster.ports.web) };
    let mut addresses = json!({
        "listen_addr": web,
        "tunnel_listen_addr": web,
        "web_listen_addr": web,
        "public_addr": public(cluster.ports.web),
        "dial_timeout": 30_000_000_000_u64,
    });
    if let Some(own) = cluster.ports.own {
        addresses["listen_addr"] = listen(own.ssh).into();
        addresses["tunnel_listen_addr"] = listen(own.tunnel).into();
        addresses["ssh_public_addr"] = public(own.ssh).into();
        addresses["ssh_tunnel_public_addr"] = public(own.tunnel).into();
    }
    addresses
}
