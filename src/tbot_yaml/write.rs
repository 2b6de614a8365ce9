//! Writing a tbot.yaml, as `configure` does.

use std::fmt::Write as _;

use super::TbotYaml;
use crate::join::kind::Kind;
use crate::values::JoinToken;
use crate::yaml::scalar;

impl TbotYaml {
    /// The text of a file that says the same, with this join method.
    pub(crate) fn written(&self, method: Kind) -> String {
        let mut yaml = String::from("# For `start -c`, written by `teleport-pipe configure`.\nversion: v2\n");
        if let Some(proxy) = &self.proxy {
            let _ = writeln!(yaml, "proxy_server: {}", scalar::quoted(&proxy.to_string()));
        }
        let _ = writeln!(yaml, "onboarding:\n  join_method: {}", method.name());
        let token = match &self.token {
            Some(JoinToken::Name(name)) => Some(name.reveal().to_owned()),
            Some(JoinToken::File(path)) => Some(path.display().to_string()),
            None => None,
        };
        if let Some(token) = token {
            let _ = writeln!(yaml, "  token: {}", scalar::quoted(&token));
        }
        yaml += "storage:\n  type: memory\n";
        if let Some(ttl) = self.ttl {
            let _ = writeln!(yaml, "credential_ttl: {}s", ttl.0.as_secs());
        }
        if self.oneshot {
            yaml += "oneshot: true\n";
        }
        yaml += if self.services.is_empty() { "services: []\n" } else { "services:\n" };
        for service in &self.services {
            let path = scalar::quoted(&service.destination.path.display().to_string());
            let _ = writeln!(yaml, "  - type: identity\n    destination:\n      type: directory\n      path: {path}");
            if let Some(cluster) = &service.output.cluster {
                let _ = writeln!(yaml, "    cluster: {}", scalar::quoted(cluster.as_str()));
            }
        }
        yaml
    }
}
