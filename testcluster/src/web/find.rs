//! `GET /webapi/find` (teleport-join.md 1.2).

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::suite::{Suite, SuiteInFind};

/// The answer of a proxy with TLS routing: one port for everything.
pub(super) fn answer(cluster: &Cluster) -> Value {
    let options = &cluster.options;
    let listen = format!("{}:{}", options.address, cluster.port);
    // What a find reply always has under `auth`, empty.
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
    json!({
        "auth": auth,
        "proxy": {
            "kube": {},
            "ssh": {
                "listen_addr": listen,
                "tunnel_listen_addr": listen,
                "web_listen_addr": listen,
                "public_addr": format!("{}:{}", options.public_name, cluster.port),
                "dial_timeout": 30_000_000_000_u64,
            },
            "db": {},
            "tls_routing_enabled": true,
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
    })
}
