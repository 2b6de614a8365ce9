//! What the join service and the REST join have in common: they verify the ID token and sign the bot's own certificates
//! (docs/protocol.md, "Bot certificate").

use std::sync::atomic::Ordering;

use rand_core::{OsRng, RngCore};
use ssh_key::Certificate;

use crate::authority::{Authority, Identity, Purpose, RsaKey, SigningKey, UserSsh, ssh_private_key};
use crate::cluster::{BOT, BOT_USER, Cluster};
use crate::fault::Fault;
use crate::hostile::Lie;
use crate::injection::Exchange;
use crate::peer::Peer;
use crate::public_key::{SshKey, TlsKey};
use crate::record::EventKind;
use crate::refusal::Refusal;
use crate::rotation::all;
use crate::suite::KeyKind;

/// Lifetime of the bot's own certificates if the request has none.
const DEFAULT_TTL: u64 = 3600;
/// Their longest lifetime; a longer one is silently reduced to it (docs/protocol.md, "Bot certificate").
pub(crate) const MAX_TTL: u64 = 24 * 3600;

/// The parameters of a join.
#[derive(Debug)]
pub(crate) struct JoinParams {
    pub id_token: String,
    pub tls: TlsKey,
    pub ssh: SshKey,
    /// The requested end, in seconds since 1970.
    pub expires: Option<i64>,
}

/// A bot's own certificates, before they are encoded for one of the two.
#[derive(Debug)]
pub(crate) struct BotCertificates<'a> {
    /// DER.
    pub tls: Vec<u8>,
    pub ssh: Certificate,
    pub authorities: Vec<&'a Authority>,
    /// Those of the authorities that the client is shown.
    pub tls_authorities: Vec<Vec<u8>>,
}

/// Verifies the ID token and signs the certificates.
pub(crate) fn register<'a>(
    cluster: &'a Cluster,
    peer: &Peer,
    params: JoinParams,
) -> Result<BotCertificates<'a>, Refusal> {
    record_key(cluster, peer, "join", "tls", &params.tls.kind, params.tls.encoding);
    record_key(cluster, peer, "join", "ssh", &params.ssh.kind, params.ssh.encoding);
    let now = cluster.now();
    cluster.lies.remember_id_token(&params.id_token);
    if let Some(text) = cluster.lies.refusal(Exchange::OidcInit) {
        return Err(Refusal::access_denied(text));
    }
    if cluster.has_one_time_token() {
        cluster.token_is_spent.store(true, Ordering::SeqCst);
    } else {
        cluster.idp.verify(&params.id_token, &cluster.options.token, &cluster.options.name, now)?;
    }
    let expires = clamp(params.expires, now);
    let identity = Identity {
        user: BOT_USER.into(),
        roles: vec![BOT_USER.into()],
        principals: vec![nologin_principal(), crate::authority::JOIN_PRINCIPAL.into()],
        route: cluster.options.name.clone(),
        bot: BOT.into(),
        instance: uuid(),
        ..Identity::default()
    };
    let (mut tls_key, mut ssh_key) = (params.tls.key, params.ssh.key);
    if cluster.faults.has(Fault::JoinCertForOtherKey) {
        tls_key = SigningKey::new(KeyKind::P256, RsaKey::Server).public();
        ssh_key = ssh_private_key(KeyKind::P256, RsaKey::Server).public_key().clone();
    }
    let (user_ca, _) = cluster.authorities.user();
    let issued = EventKind::Issued {
        during: "join",
        roles: identity.roles.clone(),
        ttl: expires.cast_signed() - now.cast_signed(),
    };
    cluster.record.add(peer.connection(), issued);
    let authorities: Vec<_> = all(cluster.authorities.user()).chain(all(cluster.authorities.host())).collect();
    let mut tls_authorities = authorities.iter().map(|authority| authority.der()).collect();
    cluster.lies.apply(&mut tls_authorities, |lie| match lie {
        Lie::JoinAuthorities(change) => Some(change),
        _ => None,
    });
    Ok(BotCertificates {
        tls: user_ca.issue_tls(tls_key, identity.subject(user_ca.cluster()), Purpose::Client, (now - 60, expires)),
        ssh: user_ca.issue_user_ssh(&UserSsh {
            key: &ssh_key,
            identity: &identity,
            critical_options: &[],
            from: now - 60,
            to: expires,
        }),
        authorities,
        tls_authorities,
    })
}

/// The end of a bot's own certificates, limited by the server's clock.
fn clamp(wanted: Option<i64>, now: u64) -> u64 {
    match wanted {
        None => now + DEFAULT_TTL,
        Some(wanted) => u64::try_from(wanted).unwrap_or_default().min(now + MAX_TTL),
    }
}

/// Records the kind and the encoding of a key, but not the key.
pub(crate) fn record_key(
    cluster: &Cluster,
    peer: &Peer,
    during: &'static str,
    usage: &'static str,
    kind: &str,
    encoding: &'static str,
) {
    let event = EventKind::Key { during, usage, kind: kind.to_owned(), encoding };
    cluster.record.add(peer.connection(), event);
}

/// The placeholder for the logins of an identity without any (docs/protocol.md, "Issued certificates").
pub(crate) fn nologin_principal() -> String {
    format!("-teleport-nologin-{}", uuid())
}

/// A random UUID.
pub(crate) fn uuid() -> String {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    let number = u128::from_be_bytes(bytes);
    // Version 4, variant 1 (RFC 9562).
    let number = number & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_limited_to_a_day() {
        let now = 1_763_690_000;
        assert_eq!(clamp(None, now), now + 3600);
        assert_eq!(clamp(Some(1_763_690_060), now), now + 60);
        assert_eq!(clamp(Some(1_763_690_000 + 48 * 3600), now), now + 86_400);
        assert_eq!(clamp(Some(-1), now), 0);
    }
}
