//! Signing SSH certificates (docs/protocol.md, "Issued certificates" and "Node names").

use rand_core::{OsRng, RngCore};
use ssh_key::certificate::{Builder, CertType};
use ssh_key::public::KeyData;
use ssh_key::{Certificate, PublicKey};

use super::{Authority, Identity};

/// The principal of all user certificates, with which they can open reverse tunnels.
pub(crate) const JOIN_PRINCIPAL: &str = "-teleport-internal-join";

/// A user certificate to sign.
#[derive(Debug)]
pub(crate) struct UserSsh<'a> {
    pub key: &'a PublicKey,
    pub identity: &'a Identity,
    pub critical_options: &'a [(&'static str, String)],
    /// Seconds since 1970.
    pub from: u64,
    /// Seconds since 1970.
    pub to: u64,
}

/// A host certificate to sign.
#[derive(Debug)]
pub(crate) struct HostSsh<'a> {
    pub key: &'a PublicKey,
    /// The principals.
    pub names: &'a [String],
    /// Seconds since 1970.
    pub from: u64,
}

impl Authority {
    /// Signs a user certificate in Teleport's `standard` format.
    pub(crate) fn issue_user_ssh(&self, request: &UserSsh<'_>) -> Certificate {
        let identity = request.identity;
        // A certificate that has already expired still begins before its end.
        let from = request.from.min(request.to.saturating_sub(60));
        let mut extensions = vec![
            ("permit-pty", String::new()),
            ("permit-port-forwarding", String::new()),
            ("permit-agent-forwarding", String::new()),
            ("teleport-roles", serde_json::json!({"version": "v1", "roles": identity.roles}).to_string()),
            ("teleport-traits", "{}".to_owned()),
            ("teleport-route-to-cluster", identity.route.clone()),
            ("login-ip", "127.0.0.1".to_owned()),
            ("private-key-policy", "none".to_owned()),
            ("bot-name@goteleport.com", identity.bot.clone()),
            ("bot-instance-id@goteleport.com", identity.instance.clone()),
        ];
        if !identity.impersonator.is_empty() {
            extensions.push(("impersonator", identity.impersonator.clone()));
        }
        if identity.no_reissue {
            extensions.push(("disallow-reissue", String::new()));
        }
        self.sign_ssh(request.key, (from, request.to), |builder| {
            builder.cert_type(CertType::User)?.key_id(&identity.user)?;
            principals(builder, &identity.principals)?;
            let mut options = request.critical_options.iter();
            options.try_for_each(|(name, value)| builder.critical_option(*name, value.clone()).map(drop))?;
            extensions.into_iter().try_for_each(|(name, value)| builder.extension(name, value).map(drop))
        })
    }

    /// Signs a node's certificate.
    pub(crate) fn issue_host_ssh(&self, request: &HostSsh<'_>) -> Certificate {
        let cluster = &self.cluster;
        let ten_years = request.from + 10 * 365 * 24 * 3600;
        self.sign_ssh(request.key, (request.from, ten_years), |builder| {
            builder.cert_type(CertType::Host)?;
            principals(builder, request.names)?;
            builder.extension("x-teleport-role", "Node")?.extension("x-teleport-authority", cluster)?;
            Ok(())
        })
    }

    fn sign_ssh(
        &self,
        key: &PublicKey,
        (from, to): (u64, u64),
        fill: impl FnOnce(&mut Builder) -> ssh_key::Result<()>,
    ) -> Certificate {
        let data: KeyData = key.into();
        let signed = Builder::new_with_random_nonce(&mut OsRng, data, from, to).and_then(|mut builder| {
            builder.serial(OsRng.next_u64())?;
            fill(&mut builder)?;
            builder.sign(&self.ssh)
        });
        signed.expect("signing with a valid key succeeds")
    }
}

fn principals(builder: &mut Builder, names: &[String]) -> ssh_key::Result<()> {
    if names.is_empty() {
        builder.all_principals_valid()?;
    }
    names.iter().try_for_each(|name| builder.valid_principal(name).map(drop))
}
