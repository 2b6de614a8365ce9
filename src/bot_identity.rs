//! The bot's own identity: the certificate that a join gives, checked.
//!
//! It gives access to nothing but the Auth Service. Access to nodes comes with the certificates that this one issues.

use std::time::SystemTime;

use prost_types::Timestamp;
use rustls::pki_types::CertificateDer;
use teleport_api::proto::UserCertsRequest;

use crate::address::ClusterName;
use crate::auth::{self, Auth};
use crate::credentials::{self, Response};
use crate::error::Failure;
use crate::join::Joined;
use crate::keys::KeyPair;
use crate::limits::{self, expect_at_most};
use crate::net::tls::{ClientIdentity, Trust};
use crate::output;
use crate::text::sanitize;
use crate::x509::X509;

pub(crate) struct BotIdentity {
    /// The bot's user name, which is also the name of its own role.
    pub(crate) user: String,
    /// The root cluster.
    pub(crate) cluster: ClusterName,
    /// The certificate authorities that identify the Auth Service.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// The same authorities and the client certificate.
    pub(crate) trust: Trust,
}

impl BotIdentity {
    /// Checks that the certificate is for our key and names the bot and the cluster.
    pub(crate) fn new(joined: Joined) -> Result<Self, Failure> {
        expect_at_most(limits::JOIN_AUTHORITIES, joined.authorities.len(), "certificate authorities")?;
        let unreadable = || credentials::Error::Unreadable("certificate of the bot");
        let certificate = X509::from_der(&joined.certificate).map_err(|_| unreadable())?;
        if certificate.public_key_der() != joined.key.public_der()? {
            return Err(credentials::Error::OtherKey("bot's").into());
        }
        let user = certificate.common_name().ok_or_else(unreadable)?;
        let cluster = certificate.issuer_organization().and_then(|name| name.parse().ok()).ok_or_else(unreadable)?;
        let client = ClientIdentity { certificate: joined.certificate, key: joined.key.private_der()? };
        let trust = Trust::cluster(&joined.authorities, client);
        Ok(Self { user, cluster, authorities: joined.authorities, trust })
    }

    /// Requests user certificates for `key` in two round trips. They are routed to the requested cluster, or to the root
    /// cluster.
    pub(crate) async fn request_certificates(
        &self,
        auth: &Auth,
        key: &KeyPair,
        requested: &output::Request,
        expires: SystemTime,
    ) -> Result<Response, auth::Error> {
        let (roles, host_authorities, user_authorities) =
            tokio::try_join!(auth.impersonated_roles(&self.user), auth.authorities("host"), auth.authorities("user"))?;
        if roles.is_empty() {
            return Err(auth::Error::NoRoles { bot: sanitize(&self.user) });
        }
        expect_at_most(limits::ROLES, roles.len(), "roles of the bot")?;
        let roles = self.chosen(roles, &requested.roles)?;
        let cluster = requested.route.as_ref().unwrap_or(&self.cluster);
        let names =
            host_authorities.iter().filter_map(|authority| Some(authority.spec.as_ref()?.cluster_name.as_str()));
        if *cluster != self.cluster && !names.clone().any(|name| name == cluster.as_str()) {
            return Err(auth::Error::UnknownCluster { cluster: cluster.clone(), known: names.map(sanitize).collect() });
        }
        log::debug!(target: "certificates", "requesting the roles {}", sanitize(&roles.join(", ")));
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = UserCertsRequest {
            username: self.user.clone(),
            // The server may cut this without an error: the certificates show it.
            expires: Some(Timestamp { seconds: expires.cast_signed(), nanos: 0 }),
            route_to_cluster: cluster.to_string(),
            role_requests: roles,
            // Without it the request would renew the bot's own certificate, which gives access to nothing.
            use_role_requests: true,
            ssh_public_key: key.authorized_key()?.into_bytes(),
            tls_public_key: key.public_pem()?.into_bytes(),
        };
        let certs = auth.user_certs(request, cluster).await.map_err(|error| error.about(&self.user))?;
        Ok(Response { certs, host_authorities, user_authorities })
    }

    /// Those of the bot's roles that were asked for.
    fn chosen(&self, roles: Vec<String>, wanted: &[String]) -> Result<Vec<String>, auth::Error> {
        match wanted.iter().find(|role| !roles.contains(role)) {
            None if wanted.is_empty() => Ok(roles),
            None => Ok(wanted.to_vec()),
            Some(role) => Err(auth::Error::NotARole { bot: sanitize(&self.user), role: sanitize(role) }),
        }
    }
}
