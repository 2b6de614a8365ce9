//! The bot's own identity: what the join gave, and what it is good for.
//!
//! It has no access to anything but the calls of [`ask`](BotIdentity::ask); access comes with the certificates that these
//! bring.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use teleport_api::proto::Certs;
use teleport_api::types::CertAuthorityV2;

use crate::address::ClusterName;
use crate::auth::{self, Auth, UserCerts};
use crate::credentials;
use crate::error::Failure;
use crate::join::Joined;
use crate::keys::KeyPair;
use crate::net::tls::{ClientIdentity, Trust};
use crate::text::sanitize;
use crate::x509::X509;

/// The bot's own identity, ready to be used.
pub(crate) struct BotIdentity {
    /// Its user, which is also the name of its own role.
    pub(crate) user: String,
    /// The cluster that it is of.
    pub(crate) cluster: ClusterName,
    /// By whom Auth is recognised.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// The same, and the client certificate.
    pub(crate) trust: Trust,
}

impl BotIdentity {
    /// Looks at what the join gave.
    ///
    /// # Errors
    /// The certificate is not for our key, or does not say who it is for.
    pub(crate) fn new(joined: Joined) -> Result<Self, Failure> {
        let unusable = || credentials::Error::Unreadable("certificate of the bot");
        let certificate = X509::from_der(&joined.certificate).map_err(|_| unusable())?;
        if certificate.public_key_der() != joined.key.public_der()? {
            return Err(credentials::Error::OtherKey("bot's").into());
        }
        let user = certificate.common_name().ok_or_else(unusable)?;
        let cluster = certificate.issuer_organization().and_then(|name| name.parse().ok()).ok_or_else(unusable)?;
        let client = ClientIdentity { certificate: joined.certificate, key: joined.key.private_der()? };
        let trust = Trust::cluster(&joined.authorities, client);
        Ok(Self { user, cluster, authorities: joined.authorities, trust })
    }

    /// The Auth calls of a run: two round trips. The certificates are routed to the cluster of that name, if not to the
    /// root cluster.
    ///
    /// # Errors
    /// A call fails, the bot has no roles, or there is no such cluster.
    pub(crate) async fn ask(
        &self,
        auth: &Auth,
        key: &KeyPair,
        route: Option<&ClusterName>,
        expires: SystemTime,
    ) -> Result<Issued, auth::Error> {
        let (roles, host, user) =
            tokio::try_join!(auth.impersonated_roles(&self.user), auth.authorities("host"), auth.authorities("user"))?;
        if roles.is_empty() {
            return Err(auth::Error::NoRoles { bot: sanitize(&self.user) });
        }
        let cluster = route.unwrap_or(&self.cluster);
        let known = host.iter().filter_map(|authority| Some(authority.spec.as_ref()?.cluster_name.as_str()));
        if *cluster != self.cluster && !known.clone().any(|name| name == cluster.as_str()) {
            let known = known.map(sanitize).collect();
            return Err(auth::Error::UnknownCluster { cluster: cluster.clone(), known });
        }
        log::debug!(target: "certificates", "asking for the roles {}", sanitize(&roles.join(", ")));
        let request = UserCerts {
            user: &self.user,
            cluster,
            roles: &roles,
            expires: expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            ssh_public_key: key.authorized_key()?,
            tls_public_key: key.public_pem()?,
        };
        Ok((auth.user_certs(request).await?, host, user))
    }
}

/// Certificates, host CAs, user CAs.
pub(crate) type Issued = (Certs, Vec<CertAuthorityV2>, Vec<CertAuthorityV2>);
