//! Defects of a cluster. They can be combined; those with `Once` in their name happen one time.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// A defect of the cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing listens: connections are refused.
    RefuseAll,
    /// Connections are accepted and never served.
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
    /// The web certificate is signed by the authority of a TLS-inspecting proxy.
    WebCertOfInspector,
    /// `find` returns 404 with a page of nginx.
    FindNginx404,
    /// `find` returns 302 to a sign-in page on another host.
    FindRedirect,
    /// `find` returns 200 with a sign-in page, as a captive portal does.
    FindHtml,
    /// `find` returns 500 with an error body.
    Find500,
    /// `find` announces more bytes than it sends and closes the connection.
    FindTruncated,
    /// `find` never stops sending.
    FindEndless,
    /// The first join by the join service ends with `Unavailable` before `ServerInit`.
    JoinUnavailableOnce,
    /// The join service does not respond to `ClientInit`.
    JoinStalls,
    /// The connection closes once `OIDCInit` has arrived.
    CloseAfterOidcInit,
    /// The first REST join returns 500.
    Rest500Once,
    /// The first join is rate limited (429, `ResourceExhausted`).
    RateLimitOnce,
    /// Every join is refused with a text that holds terminal escapes, a bell and a carriage return.
    ErrorTextWithEscapes,
    /// The bot's own certificates are for a key that is not the bot's.
    JoinCertForOtherKey,
    /// The first connection to Auth closes when its first call arrives.
    DropAuthConnectionOnce,
    /// The first `GenerateUserCerts` ends with `Unavailable`.
    AuthUnavailableOnce,
    /// User certificates are for another key than the requested one.
    CertForOtherKey,
    /// The SSH user certificate is signed by an authority that is not the cluster's.
    SshCertOfOtherCa,
    /// The TLS user certificate is signed by an authority that is not the cluster's.
    TlsCertOfOtherCa,
    /// User certificates expired 30 seconds ago.
    ExpiredUserCert,
    /// User certificates are valid for twelve hours longer than requested.
    UserCertTtlLongerThanAsked,
    /// The SSH user certificate has no principals at all.
    NoPrincipals,
    /// Auth's list of host CAs holds one that is not this cluster's.
    WrongHostCa,
    /// Auth's lists of CAs are empty.
    EmptyCaList,
    /// The node has a host certificate of another authority.
    NodeCertOfOtherCa,
    /// The nodes' host certificates lack `<hostname>.<cluster>`, like those of nodes that joined with Teleport 18.2.2 to 18.2.7.
    NodeCertWithoutFullName,
    /// The transport service accepts the dial and never responds.
    DialStalls,
}

/// The faults of a cluster, and those of the one-time ones that have happened.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    active: HashSet<Fault>,
    spent: Mutex<HashSet<Fault>>,
}

impl Faults {
    pub(crate) fn new(active: HashSet<Fault>) -> Self {
        Self { active, spent: Mutex::default() }
    }

    /// Whether a lasting fault is active.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.active.contains(&fault)
    }

    /// Whether a one-time fault happens now.
    pub(crate) fn trigger(&self, fault: Fault) -> bool {
        self.has(fault) && self.spent.lock().unwrap_or_else(PoisonError::into_inner).insert(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_faults_happen_once() {
        let faults = Faults::new([Fault::Rest500Once].into());
        assert!(faults.trigger(Fault::Rest500Once));
        assert!(!faults.trigger(Fault::Rest500Once));
        assert!(!faults.trigger(Fault::RateLimitOnce));
    }
}
