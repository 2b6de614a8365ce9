//! Rotation of the host CA and the user CA (Teleport's documentation, "Certificate Authority Rotation";
//! docs/protocol.md, "Auth calls").

use std::sync::{OnceLock, PoisonError, RwLock};

use crate::authority::{Authority, RsaKey};
use crate::cluster::now;
use crate::options::Options;

/// A phase of a rotation of the host CA and the user CA. Between the first and the last phase, both the old and the new
/// authorities are trusted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// There are only the old authorities.
    #[default]
    Standby,
    /// The new authorities exist; the old ones still sign.
    Init,
    /// The new authorities sign. Servers still have certificates of the old host CA.
    UpdateClients,
    /// Servers have certificates of the new host CA.
    UpdateServers,
    /// There are only the new authorities.
    Rotated,
}

/// The cluster's own authorities.
#[derive(Debug)]
pub(crate) struct Authorities {
    options: Options,
    old: Pair,
    /// Created when a rotation begins.
    new: OnceLock<Pair>,
    phase: RwLock<Phase>,
}

#[derive(Debug)]
struct Pair {
    host: Authority,
    user: Authority,
}

/// The authority that signs, and another trusted one.
pub(crate) type Trusted<'a> = (&'a Authority, Option<&'a Authority>);

impl Authorities {
    pub(crate) fn new(options: &Options) -> Self {
        let old = pair(options, [RsaKey::HostCa, RsaKey::UserCa]);
        let phase = RwLock::new(options.phase);
        Self { options: options.clone(), old, new: OnceLock::new(), phase }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        *self.phase.write().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn phase(&self) -> Phase {
        *self.phase.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_pair(&self) -> &Pair {
        self.new.get_or_init(|| pair(&self.options, [RsaKey::HostCaNext, RsaKey::UserCaNext]))
    }

    fn trusted(&self, pick: impl Fn(&Pair) -> &Authority) -> Trusted<'_> {
        match self.phase() {
            Phase::Standby => (pick(&self.old), None),
            Phase::Init => (pick(&self.old), Some(pick(self.new_pair()))),
            Phase::UpdateClients | Phase::UpdateServers => (pick(self.new_pair()), Some(pick(&self.old))),
            Phase::Rotated => (pick(self.new_pair()), None),
        }
    }

    pub(crate) fn host(&self) -> Trusted<'_> {
        self.trusted(|pair| &pair.host)
    }

    pub(crate) fn user(&self) -> Trusted<'_> {
        self.trusted(|pair| &pair.user)
    }

    /// The host CA whose certificates servers and nodes have.
    pub(crate) fn server_ca(&self) -> &Authority {
        match self.phase() {
            Phase::Standby | Phase::Init | Phase::UpdateClients => &self.old.host,
            Phase::UpdateServers | Phase::Rotated => &self.new_pair().host,
        }
    }
}

pub(crate) fn all<'a>((active, additional): Trusted<'a>) -> impl Iterator<Item = &'a Authority> + use<'a> {
    std::iter::once(active).chain(additional)
}

fn pair(options: &Options, [host, user]: [RsaKey; 2]) -> Pair {
    let authority = |key| Authority::new(&options.name, options.suite, key, now(options.clock_offset));
    Pair { host: authority(host), user: authority(user) }
}
