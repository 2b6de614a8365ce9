//! What can be made to go wrong. Faults can be combined; those with `Once` in their name strike one time.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Something that the cluster does wrong, or that goes wrong on the way to it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing listens: connections are refused.
    RefuseAll,
    /// Connections are accepted and never answered.
    Hang,
    /// The first connection is reset after its ClientHello.
    ResetOnce,
    /// The web certificate expired yesterday.
    WebCertExpired,
    /// The web certificate is for `elsewhere.example.com`.
    WebCertForOtherName,
    /// The web certificate becomes valid tomorrow.
    WebCertNotYetValid,
    /// The web certificate is signed by its own key.
    WebCertSelfSigned,
    /// The web certificate is signed by an authority of the kind that inspects TLS.
    WebCertOfInspector,
    /// `find` is not found, by nginx.
    FindNginx404,
    /// `find` responses 302, to a sign-in page on another host.
    FindRedirect,
    /// `find` responses 200 with a sign-in page, as a portal in front would.
    FindHtml,
    /// `find` responses 500 with an error body.
    Find500,
    /// `find` announces more bytes than it sends and closes the connection.
    FindTruncated,
    /// `find` never stops sending.
    FindEndless,
    /// The first join by the join service ends with `Unavailable` before `ServerInit`.
    JoinUnavailableOnce,
    /// The join service says nothing after `ClientInit`.
    JoinStalls,
    /// The connection closes once `OIDCInit` is in.
    CloseAfterOidcInit,
    /// The first REST join responses 500.
    Rest500Once,
    /// The first join, by whichever service, is told to come back later (429, `ResourceExhausted`).
    RateLimitOnce,
    /// Every join is refused with a text that holds terminal escapes, a bell and a carriage return.
    ErrorTextWithEscapes,
    /// The bot's own certificates are for a key that is not the bot's.
    JoinCertForOtherKey,
    /// The first connection to Auth closes when its first call arrives.
    DropAuthConnectionOnce,
    /// The first `GenerateUserCerts` ends with `Unavailable`.
    AuthUnavailableOnce,
    /// User certificates are for a key that nobody has.
    CertForOtherKey,
    /// The SSH user certificate is signed by an authority that is not the cluster's.
    SshCertOfOtherCa,
    /// The TLS user certificate is.
    TlsCertOfOtherCa,
    /// User certificates expired 30 seconds ago.
    ExpiredUserCert,
    /// User certificates live twelve hours longer than was asked for.
    UserCertTtlLongerThanAsked,
    /// The SSH user certificate has no principals at all.
    NoPrincipals,
    /// Auth's list of host CAs holds one that is not this cluster's.
    WrongHostCa,
    /// Auth's lists of CAs are empty.
    EmptyCaList,
    /// The node shows a host certificate that another authority signed.
    NodeCertOfOtherCa,
    /// The transport service accepts the dial and never responses.
    DialStalls,
}

/// The faults of a cluster, and which of the one-time ones have struck.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    active: HashSet<Fault>,
    spent: Mutex<HashSet<Fault>>,
}

impl Faults {
    pub(crate) fn new(active: HashSet<Fault>) -> Self {
        Self { active, spent: Mutex::default() }
    }

    /// Whether a lasting fault is switched on.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.active.contains(&fault)
    }

    /// Whether a one-time fault strikes now.
    pub(crate) fn trigger(&self, fault: Fault) -> bool {
        self.has(fault) && self.spent.lock().unwrap_or_else(PoisonError::into_inner).insert(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_faults_strike_once() {
        let faults = Faults::new([Fault::Rest500Once].into());
        assert!(faults.trigger(Fault::Rest500Once));
        assert!(!faults.trigger(Fault::Rest500Once));
        assert!(!faults.trigger(Fault::RateLimitOnce));
    }
}
