//! `GenerateUserCerts`: checks callers, roles and lifetimes, and signs (docs/protocol.md, "Issued certificates").

use teleport_api::proto::{Certs, UserCertsRequest};

use crate::authority::{
    Authority, Identity, JOIN_PRINCIPAL, Purpose, RsaKey, SigningKey, UserSsh, pem, ssh_private_key,
};
use crate::cluster::{BOT_USER, Cluster};
use crate::fault::Fault;
use crate::hostile::Lie;
use crate::join::{MAX_TTL, nologin_principal, record_key};
use crate::options::Role;
use crate::peer::Peer;
use crate::public_key::{ssh_from_line, tls_from_pem};
use crate::record::EventKind;
use crate::refusal::Refusal;
use crate::suite::KeyKind;

/// Checks a request and signs the certificates.
pub(crate) fn generate(
    cluster: &Cluster,
    peer: &Peer,
    caller: &Identity,
    request: &UserCertsRequest,
) -> Result<Certs, Refusal> {
    if cluster.faults.trigger(Fault::AuthUnavailableOnce) {
        return Err(Refusal::connection_problem("auth service is not available"));
    }
    let impersonation = request.use_role_requests || !request.role_requests.is_empty();
    check_caller(caller, request, impersonation)?;
    let now = cluster.now();
    let wanted = request.expires.as_ref().map_or(0, |time| u64::try_from(time.seconds).unwrap_or_default());
    let roles = if impersonation { impersonated(cluster, request)? } else { Vec::new() };
    let expires = lifetime(cluster, wanted, &roles, now)?;
    let route = match request.route_to_cluster.as_str() {
        "" => &cluster.options.name,
        name if name == cluster.options.name => &cluster.options.name,
        other => match cluster.leaf_cluster(other) {
            None => return Err(Refusal::not_found(format!("remote cluster \"{other}\" is not found"))),
            // Without access the text is almost that of a cluster that does not exist.
            Some(leaf) if !leaf.reachable => {
                return Err(Refusal::not_found(format!("remote cluster \"{other}\" not found")));
            }
            Some(_) => &request.route_to_cluster,
        },
    };
    let identity = Identity {
        user: BOT_USER.into(),
        roles: if impersonation { names(&roles) } else { vec![BOT_USER.into()] },
        principals: principals(&roles),
        route: route.clone(),
        impersonator: if impersonation { BOT_USER.into() } else { String::new() },
        no_reissue: impersonation,
        bot: caller.bot.clone(),
        instance: caller.instance.clone(),
    };
    let mut certs = sign(cluster, peer, request, &identity, expires)?;
    cluster.lies.apply(&mut certs, |lie| if let Lie::UserCerts(change) = lie { Some(change) } else { None });
    let ttl = expires.cast_signed() - now.cast_signed();
    cluster.record.add(peer.connection(), EventKind::Issued { during: "issue", roles: identity.roles, ttl });
    Ok(certs)
}

/// Only the bot may call, for itself, with its own certificate.
fn check_caller(caller: &Identity, request: &UserCertsRequest, impersonation: bool) -> Result<(), Refusal> {
    if caller.no_reissue {
        return Err(Refusal::access_denied("access denied: identity is not allowed to reissue certificates"));
    }
    if !caller.impersonator.is_empty() && impersonation {
        return Err(Refusal::access_denied("access denied: impersonated roles can not request other roles"));
    }
    if request.username != caller.user {
        return Err(Refusal::access_denied("access denied: impersonation is not allowed"));
    }
    Ok(())
}

/// The requested roles. Each must exist, and the bot's own role must list it.
fn impersonated<'a>(cluster: &'a Cluster, request: &UserCertsRequest) -> Result<Vec<&'a Role>, Refusal> {
    if request.role_requests.is_empty() {
        return Err(Refusal::bad_parameter("at least one role request is required"));
    }
    let mut roles: Vec<&Role> = Vec::new();
    for name in &request.role_requests {
        let role = cluster.role(name)?;
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    if roles.iter().all(|role| cluster.options.impersonated.contains(&role.name)) {
        Ok(roles)
    } else {
        let list = names(&roles).join(" ");
        Err(Refusal::access_denied(format!("user \"{BOT_USER}\" has requested role impersonation for \"{list}\"")))
    }
}

/// The end of the certificates. A time in the past is refused; a later one is silently limited to a day and to the
/// `max_session_ttl` of each role.
fn lifetime(cluster: &Cluster, wanted: u64, roles: &[&Role], now: u64) -> Result<u64, Refusal> {
    if wanted <= now {
        let expired = "access denied: client credentials have expired, please relogin.";
        return Err(Refusal::access_denied(expired));
    }
    let limits = roles.iter().map(|role| role.max_session_ttl.as_secs());
    let expires = wanted.min(now + limits.min().unwrap_or(MAX_TTL).min(MAX_TTL));
    Ok(if cluster.faults.has(Fault::ExpiredUserCert) {
        now - 30
    } else if cluster.faults.has(Fault::UserCertTtlLongerThanAsked) {
        wanted + 12 * 3600
    } else {
        expires
    })
}

fn names(roles: &[&Role]) -> Vec<String> {
    roles.iter().map(|role| role.name.clone()).collect()
}

/// The roles' logins, or a placeholder if they have none, and the principal that all certificates have.
fn principals(roles: &[&Role]) -> Vec<String> {
    let mut principals: Vec<String> = Vec::new();
    for login in roles.iter().flat_map(|role| &role.logins) {
        if !principals.contains(login) {
            principals.push(login.clone());
        }
    }
    if principals.is_empty() {
        principals.push(nologin_principal());
    }
    principals.push(JOIN_PRINCIPAL.into());
    principals
}

/// Signs an SSH certificate for an SSH key and an X.509 certificate for a TLS key. A request needs at least one of the
/// two.
fn sign(
    cluster: &Cluster,
    peer: &Peer,
    request: &UserCertsRequest,
    identity: &Identity,
    expires: u64,
) -> Result<Certs, Refusal> {
    if request.ssh_public_key.is_empty() && request.tls_public_key.is_empty() {
        return Err(Refusal::bad_parameter("ssh: no key found"));
    }
    let (user_ca, _) = cluster.authorities.user();
    let options = &cluster.options;
    let other_ca = Authority::new(&options.name, options.suite, RsaKey::IdentityProvider, cluster.now());
    // The host CA comes from the trust service only.
    let mut certs = Certs {
        tls_ca_certs: vec![user_ca.pem().into_bytes()],
        ssh_ca_certs: vec![user_ca.ssh_line().into_bytes()],
        ..Certs::default()
    };
    let other_key = cluster.faults.has(Fault::CertForOtherKey);
    let from = cluster.now() - 60;
    if !request.tls_public_key.is_empty() {
        let mut received = tls_from_pem(&request.tls_public_key)?;
        record_key(cluster, peer, "issue", "tls", &received.kind, received.encoding);
        if other_key {
            received.key = SigningKey::new(KeyKind::P256, RsaKey::Server).public();
        }
        let subject = identity.subject(user_ca.cluster());
        let signer = if cluster.faults.has(Fault::TlsCertOfOtherCa) { &other_ca } else { user_ca };
        certs.tls = pem(&signer.issue_tls(received.key, subject, Purpose::Client, (from, expires))).into_bytes();
    }
    if !request.ssh_public_key.is_empty() {
        let mut received = ssh_from_line(&request.ssh_public_key)?;
        record_key(cluster, peer, "issue", "ssh", &received.kind, received.encoding);
        if other_key {
            received.key = ssh_private_key(KeyKind::P256, RsaKey::Server).public_key().clone();
        }
        let mut identity = identity.clone();
        if cluster.faults.has(Fault::NoPrincipals) {
            identity.principals.clear();
        }
        let principals = &mut identity.principals;
        cluster.lies.apply(principals, |lie| if let Lie::Principals(change) = lie { Some(change) } else { None });
        let request = UserSsh {
            key: &received.key,
            identity: &identity,
            critical_options: cluster.lies.critical_options(),
            from,
            to: expires,
        };
        let signer = if cluster.faults.has(Fault::SshCertOfOtherCa) { &other_ca } else { user_ca };
        let certificate = signer.issue_user_ssh(&request).to_openssh();
        let line = certificate.map_err(|error| Refusal::other(error.to_string()))?;
        certs.ssh = format!("{}\n", line.trim_end()).into_bytes();
    }
    Ok(certs)
}
