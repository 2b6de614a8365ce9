//! A sample of every error that implements [`Explain`], at least one per variant and one per case in which a variant
//! gets different advice. The golden files show what each of them leads to, so that a change of this code cannot change
//! an exit code, a decision to try again or an anchor unseen.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use expect_test::expect_file;
use rustix::io::Errno;
use tonic::Code;

use super::{Exit, Explain, render};
use crate::clock::{Offset, approximate};
use crate::command::doctor::findings;
use crate::command::ssh_proxy_command;
use crate::destination::{Listing, Owner};
use crate::error::Retry;
use crate::host::{self, HostError};
use crate::join::error::{Refusal, TooOld};
use crate::join::method::Hints;
use crate::join::service::{Failed, Progress};
use crate::join::{self, Attempt};
use crate::net::discovery::ClusterInfo;
use crate::net::error::{TCP, egress};
use crate::net::peer_chain::Signer;
use crate::output::identity::ssh_config;
use crate::platform::endpoint::Refused;
use crate::platform::id_token::tests::claims;
use crate::platform::rule;
use crate::retry::{RetryAfter, Transient};
use crate::{auth, credentials, destination, guard, invalid, keys, limits, net, platform, tbot, tbot_yaml, watchdog};

#[path = "../../tests/it/troubleshooting.rs"]
mod troubleshooting;

/// What an error leads to.
struct Sample {
    name: String,
    exit: Exit,
    /// `None` if the type is not [`Transient`].
    retry: Option<Retry>,
    anchor: &'static str,
    /// What happened.
    message: String,
    /// All that a person reads.
    text: String,
}

impl Sample {
    fn new(name: String, error: &dyn Explain, retry: Option<Retry>) -> Self {
        Self {
            name,
            exit: error.advice().exit,
            retry,
            anchor: error.advice().anchor,
            message: error.to_string(),
            text: render(error),
        }
    }
}

/// A type with samples. [`Explain`] demands it in tests, so that an error without samples does not compile.
pub(crate) trait Sampled {}

/// A type whose variants are known.
trait Variants {
    const TYPE: &str;
    const ALL: &[&str];

    fn variant(&self) -> &'static str;
}

/// Lists the variants of an enum. The `match` has no wildcard, so that a new variant does not compile until it is
/// listed, and [`cover`] then demands a sample of it. A struct has no list.
macro_rules! variants {
    ($type:ty) => {
        impl Variants for $type {
            const TYPE: &str = stringify!($type);
            const ALL: &[&str] = &[];

            fn variant(&self) -> &'static str {
                ""
            }
        }
    };
    ($type:ty: $($variant:ident)+) => {
        impl Variants for $type {
            const TYPE: &str = stringify!($type);
            const ALL: &[&str] = &[$(stringify!($variant)),+];

            fn variant(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($variant),)+
                }
            }
        }
    };
}

/// Lists the variants of the types that implement [`Explain`].
macro_rules! sampled {
    ($($type:ty $(: $($variant:ident)+)?;)+) => {
        const SAMPLED: &[&str] = &[$(stringify!($type)),+];
        $(
            variants!($type $(: $($variant)+)?);
            impl Sampled for $type {}
        )+
    };
}

sampled! {
    net::Error: Egress EgressUnreached Resolve Connect Timeout Untrusted TlsTerminated NotOfCluster Certificate ClientRefused NotGrpc WrongName
        Expired NotYetValid NotTls OldTls Tls NoAlpn NoUpgrade Broken NotTeleport Redirect Status Garbled TooLarge CaFile;
    egress::Error: Timeout Broken NotAProxy Credentials AuthScheme Refused Intercepted Unreachable;
    join::Error;
    auth::Error: Net Key TooMany Refused UnknownCluster ClosedCluster NoAuthorities NoRoles NotARole;
    credentials::Error: TooMany Unreadable OtherKey NoPrincipals CriticalOption Expired NotYetValid TooLong NotSigned
        OtherHostAuthority NoAuthority;
    destination::Error: BadPath NoWorkingDirectory Symlink NotADirectory NotAFile BadName UnknownFiles OtherPurpose NotPermitted
        OtherOwner CannotChown OtherUsers OwnerOutside ReadOnly NoExec DiskFull Quota FileSize TooManyEntries Busy Late Failed;
    guard::Error: Artifacts Cache Sent Unchecked;
    guard::reach::OutsideOfStep: NotShared PassedOn;
    platform::Error: NoCi Several Missing NotNamed Command File NotAJwt NotAUrl Endpoint NoTokenInAnswer Expired;
    rule::ScopeError;
    invalid::Error: Missing MissingOutside Invalid Unsupported;
    tbot::Error: OfStart Word Usage Nothing;
    host::HostError;
    keys::Error;
    limits::TooMany;
    watchdog::Overdue;
    ssh_config::UnnameableDestination;
    ssh_proxy_command::Error: Net Identity Network Expired Node Refused Ended;
    findings::Behind;
    join::error::TooOld;
    join::token::FileError;
    tbot_yaml::Error;
}

variants!(join::Attempt: Net Grpc Rest Nonsense Key);
variants!(join::error::Refusal: TokenName Rule Audience Issuer Expired Future Signature Keys Method Role Other);

/// Panics unless each variant is there.
fn cover<'a, V: Variants + 'a>(values: impl IntoIterator<Item = &'a V>) {
    let covered: Vec<_> = values.into_iter().map(Variants::variant).collect();
    let missing: Vec<_> = V::ALL.iter().filter(|variant| !covered.contains(variant)).collect();
    assert!(missing.is_empty(), "no sample of {} {missing:?}", V::TYPE);
}

/// `type::Variant (case)`, where the case tells samples of one variant apart.
fn name<V: Variants>(value: &V, case: &str) -> String {
    let path: Vec<_> = [V::TYPE, value.variant()].into_iter().filter(|part| !part.is_empty()).collect();
    path.join("::") + &if case.is_empty() { String::new() } else { format!(" ({case})") }
}

/// Samples of an error that ends a run at once.
fn final_errors<E: Variants + Explain, const N: usize>(errors: [(&str, E); N]) -> Vec<Sample> {
    cover(errors.iter().map(|(_, error)| error));
    errors.iter().map(|(case, error)| Sample::new(name(error, case), error, None)).collect()
}

/// Samples of an error after which a call may be made again.
fn call_errors<E: Variants + Explain, const N: usize>(errors: [(&str, E); N]) -> Vec<Sample> {
    cover(errors.iter().map(|(_, error)| error));
    errors.iter().map(|(case, error)| Sample::new(name(error, case), error, Some(error.advice().retry))).collect()
}

fn samples() -> Vec<Sample> {
    let mut samples = net_errors();
    samples.extend(egress_errors());
    samples.extend(join_errors());
    samples.extend(auth_errors());
    samples.extend(credentials_errors());
    samples.extend(destination_errors());
    samples.extend(guard_errors());
    samples.extend(input_errors());
    samples.extend(ssh_proxy_errors());
    samples.extend(final_errors([("", findings::Behind { offset: Offset::from_seconds(120) })]));
    let platform = platform::ALL[0];
    let too_old = TooOld { version: "16.4.0".to_owned(), proof: platform.proof(), since: platform.since };
    samples.extend(final_errors([("", too_old)]));
    samples.extend(final_errors([("", keys::Error("encoded"))]));
    samples.extend(final_errors([("", too_many())]));
    samples.extend(final_errors([("", watchdog::Overdue { timeout: MINUTE })]));
    samples
}

fn too_many() -> limits::TooMany {
    limits::TooMany { what: "clusters", count: 10_000, most: limits::CLUSTERS }
}

fn addr() -> String {
    "example.teleport.sh:443".to_owned()
}

fn host() -> String {
    "example.teleport.sh".to_owned()
}

fn reason() -> String {
    "a reason".to_owned()
}

const MINUTE: Duration = Duration::from_secs(60);

fn too_late() -> RetryAfter {
    let mut retry_after = RetryAfter::asked(MINUTE);
    retry_after.too_late = true;
    retry_after
}

fn asked() -> RetryAfter {
    RetryAfter::asked(MINUTE)
}

fn nothing() -> RetryAfter {
    RetryAfter::default()
}

fn not_tls() -> net::Error {
    net::Error::NotTls { host: host(), found: "SSH".to_owned() }
}

fn client_refused() -> net::Error {
    net::Error::ClientRefused { addr: addr(), alert: "AccessDenied".to_owned() }
}

fn untrusted(issuers: &[&str], itself: bool) -> net::Error {
    let issuers: Vec<_> = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
    net::Error::Untrusted { host: host(), signer: Signer::from_issuers(&issuers, itself) }
}

fn net_errors() -> Vec<Sample> {
    use net::Error;
    let resolve = |reason: &str| Error::Resolve { host: host(), reason: reason.to_owned() };
    let connect = |kind: io::ErrorKind| Error::Connect { addr: addr(), source: kind.into() };
    let timeout = |waiting_for| Error::Timeout { addr: addr(), waiting_for };
    let status = |status, retry_after| Error::Status { addr: addr(), status, retry_after, message: reason() };
    let not_grpc = |status, retry_after| Error::NotGrpc { addr: addr(), status, retry_after };
    let old_tls = |lacking| Error::OldTls { host: host(), lacking };
    let unreached = |source| Error::EgressUnreached { proxy: host(), source: Box::new(source) };
    let refused = egress::Error::Refused { proxy: host(), target: addr(), answer: reason() };
    call_errors([
        ("final", Error::Egress(refused)),
        ("passes", Error::Egress(egress::Error::Timeout { proxy: host(), target: addr() })),
        ("not trusted", unreached(untrusted(&["Acme Issuing CA (Acme)"], false))),
        ("not TLS", unreached(not_tls())),
        ("passes", unreached(connect(io::ErrorKind::ConnectionRefused))),
        ("final", unreached(client_refused())),
        ("", resolve("no address associated with hostname")),
        ("EAI_AGAIN of glibc", resolve("Temporary failure in name resolution")),
        ("EAI_AGAIN of musl", resolve("Try again")),
        ("refused", connect(io::ErrorKind::ConnectionRefused)),
        ("", connect(io::ErrorKind::HostUnreachable)),
        ("TCP", timeout(TCP)),
        ("", timeout("the TLS handshake")),
        ("self-signed", untrusted(&["localhost"], true)),
        ("inspected", untrusted(&["Zscaler Root CA (Zscaler Inc.)"], false)),
        ("root not shown", untrusted(&["Acme Issuing CA (Acme)"], false)),
        ("private root", untrusted(&["Acme Issuing CA (Acme)", "Acme Root (Acme)"], false)),
        ("", Error::TlsTerminated { host: host(), signer: Signer::from_issuers(&[reason()], false) }),
        ("", Error::NotOfCluster { host: host(), reason: reason() }),
        ("", Error::Certificate { host: host(), reason: reason() }),
        ("", client_refused()),
        ("403", not_grpc(403, nothing())),
        ("429", not_grpc(429, asked())),
        ("429, too late", not_grpc(429, too_late())),
        ("501", not_grpc(501, nothing())),
        ("502", not_grpc(502, nothing())),
        ("", Error::WrongName { host: host(), names: "a.example, b.example".to_owned() }),
        ("", Error::Expired { host: host(), times: " (until then, now)".to_owned() }),
        ("", Error::NotYetValid { host: host(), times: " (from then, now)".to_owned() }),
        ("", not_tls()),
        ("version", old_tls("TLS version")),
        ("cipher", old_tls("TLS cipher")),
        ("", Error::Tls { host: host(), reason: reason() }),
        ("", Error::NoAlpn { host: host() }),
        ("", Error::NoUpgrade { addr: addr(), answer: "404".to_owned() }),
        ("", Error::Broken { addr: addr(), reason: reason() }),
        ("", Error::NotTeleport { addr: addr(), found: reason() }),
        ("", Error::Redirect { addr: addr(), status: 302, to: "login.example".to_owned() }),
        ("404", status(404, nothing())),
        ("429", status(429, asked())),
        ("429, too late", status(429, too_late())),
        ("500", status(500, nothing())),
        ("501", status(501, nothing())),
        ("503, too late", status(503, too_late())),
        ("", Error::Garbled { addr: addr(), reason: reason() }),
        ("", Error::TooLarge { addr: addr(), most: "4 MiB" }),
        ("", Error::CaFile { path: "/ca.pem".into(), reason: reason() }),
    ])
}

fn egress_errors() -> Vec<Sample> {
    use egress::Error;
    let proxy = || "http://proxy.example:3128 (HTTPS_PROXY)".to_owned();
    let credentials = |given| Error::Credentials { proxy: proxy(), given, answer: reason() };
    call_errors([
        ("", Error::Timeout { proxy: proxy(), target: addr() }),
        ("", Error::Broken { proxy: proxy(), reason: reason() }),
        ("", Error::NotAProxy { proxy: proxy(), found: reason() }),
        ("given", credentials(true)),
        ("not given", credentials(false)),
        ("", Error::AuthScheme { proxy: proxy(), schemes: "Negotiate".to_owned() }),
        ("", Error::Refused { proxy: proxy(), target: addr(), answer: reason() }),
        ("", Error::Intercepted { proxy: proxy(), target: addr(), found: "a page".to_owned() }),
        ("", Error::Unreachable { proxy: proxy(), target: addr(), answer: reason() }),
    ])
}

fn grpc(code: Code, message: &str, retry_after: RetryAfter) -> Attempt {
    Attempt::Grpc { code, retry_after, message: message.to_owned() }
}

fn rest(status: u16, message: &str, retry_after: RetryAfter) -> Attempt {
    Attempt::Rest { status, retry_after, message: message.to_owned() }
}

fn unimplemented() -> Attempt {
    grpc(Code::Unimplemented, "unknown service", nothing())
}

/// What the cluster says when it refuses a join. Service and REST say the same.
const REFUSALS: [(&str, &str); 16] = [
    ("name", "token expired or not found"),
    ("name, older", "token is not valid"),
    ("rule", "id token claims did not match any allow rules"),
    ("audience", "audience is not valid: has [a], wants b"),
    ("party", "authorized party is missing"),
    ("issuer", "issuer does not match: has a, wants b"),
    ("expired", "token has expired"),
    ("future", "issued at is in the future"),
    ("keys", "discovering oidc document: 404"),
    ("signature", "invalid signature"),
    ("algorithm", "signature algorithm not supported: HS256"),
    ("method", "this token only supports method github"),
    ("method, older", "this token is only valid for the ec2 join method"),
    ("method, unsupported", "unsupported join method"),
    ("role", "token does not allow role Bot"),
    ("other", "access denied"),
];

fn join_errors() -> Vec<Sample> {
    let refusals = REFUSALS.map(|(_, message)| Refusal::from_message(message));
    cover(&refusals);
    let mut attempts = vec![
        ("final", Attempt::Net(client_refused())),
        ("once", Attempt::Net(not_tls())),
        ("", Attempt::Nonsense("a certificate is missing")),
        ("", Attempt::Key(keys::Error("generated"))),
        ("Unavailable", grpc(Code::Unavailable, "not now", nothing())),
        ("ResourceExhausted, asked", grpc(Code::ResourceExhausted, "rate limit exceeded", asked())),
        ("ResourceExhausted, too late", grpc(Code::ResourceExhausted, "rate limit exceeded", too_late())),
        ("DeadlineExceeded", grpc(Code::DeadlineExceeded, "not now", nothing())),
        ("Aborted", grpc(Code::Aborted, "not now", nothing())),
        ("Unimplemented", unimplemented()),
        ("PermissionDenied", grpc(Code::PermissionDenied, "access denied", nothing())),
        ("PermissionDenied, too late", grpc(Code::PermissionDenied, "access denied", too_late())),
        ("404", rest(404, "404 page not found", nothing())),
        ("429, asked", rest(429, "rate limit exceeded", asked())),
        ("429, too late", rest(429, "rate limit exceeded", too_late())),
        ("501", rest(501, "not implemented", nothing())),
        ("503, too late", rest(503, "not now", too_late())),
    ];
    let cases: Vec<String> = REFUSALS.iter().map(|(case, _)| format!("{case}, may pass")).collect();
    for ((case, message), may_pass) in REFUSALS.iter().zip(&cases) {
        attempts.push((*case, grpc(Code::PermissionDenied, message, nothing())));
        attempts.push((*case, rest(403, message, nothing())));
        // Codes that do not say whether the token was refused, so that the text decides.
        attempts.push((may_pass, grpc(Code::Unknown, message, nothing())));
        attempts.push((may_pass, rest(500, message, nothing())));
    }
    cover(attempts.iter().map(|(_, attempt)| attempt));
    let sample = |(case, attempt): (&str, Attempt)| {
        let (name, again) = (name(&attempt, case), attempt.retry());
        Sample::new(name, &join::Error::new(attempt, None, Hints::sample(false)), Some(again))
    };
    let mut samples: Vec<_> = attempts.into_iter().map(sample).collect();
    samples.extend(failures_of_the_service());

    let with_advice =
        |message| join::Error::new(grpc(Code::PermissionDenied, message, nothing()), None, Hints::sample(true));
    samples.extend(REFUSALS.map(|(case, message)| {
        let error = with_advice(message);
        Sample::new(name(&error, &format!("{case}, with advice")), &error, None)
    }));
    let slip = Hints { token_name: Some("bot-bitbucket".to_owned()), ..Hints::sample(true) };
    let neither =
        || join::Error::new(rest(404, "404 page not found", nothing()), Some(unimplemented()), Hints::sample(false));
    samples.extend(final_errors([
        (
            "the guide's slip",
            join::Error::new(grpc(Code::PermissionDenied, "token expired or not found", nothing()), None, slip),
        ),
        ("neither service", neither()),
        ("neither service of a new cluster", neither().at(&ClusterInfo::sample("18.3.0"))),
        ("neither service of an old cluster", neither().at(&ClusterInfo::sample("16.4.0"))),
        (
            "both refuse",
            join::Error::new(
                grpc(Code::Unknown, "no", nothing()),
                Some(rest(403, "no", nothing())),
                Hints::sample(false),
            ),
        ),
        (
            "the first says more",
            join::Error::new(rest(404, "no", nothing()), Some(Attempt::Net(client_refused())), Hints::sample(false)),
        ),
    ]));
    samples
}

/// The join service decides for itself when to try again: if it is absent, the older call comes next.
fn failures_of_the_service() -> Vec<Sample> {
    let net_errors = || {
        [
            ("NoAlpn", net::Error::NoAlpn { host: host() }),
            ("NoUpgrade", net::Error::NoUpgrade { addr: addr(), answer: "404".to_owned() }),
            ("NotGrpc", net::Error::NotGrpc { addr: addr(), status: 403, retry_after: nothing() }),
            ("Tls", net::Error::Tls { host: host(), reason: reason() }),
            ("Broken", net::Error::Broken { addr: addr(), reason: reason() }),
            ("NotTls", not_tls()),
            ("ClientRefused", client_refused()),
        ]
        .map(|(case, error)| (case, Attempt::Net(error)))
    };
    let attempts = || {
        let unavailable = grpc(Code::Unavailable, "not now", nothing());
        net_errors().into_iter().chain([("Unimplemented", unimplemented()), ("Unavailable", unavailable)])
    };
    let mut samples = Vec::new();
    for (greeted, when) in [(false, "before ServerInit"), (true, "after ServerInit")] {
        for (case, attempt) in attempts() {
            let failed = Failed { attempt, progress: Progress { greeted, rest_follows: true, spent: false } };
            let again = failed.retry();
            let name = format!("join::service::Failed ({case}, {when})");
            samples.push(Sample::new(name, &join::Error::new(failed.attempt, None, Hints::sample(false)), Some(again)));
        }
    }
    samples
}

fn auth_errors() -> Vec<Sample> {
    use auth::Error;
    let refused = |code, message: &str, retry_after| Error::Refused {
        method: "GenerateUserCerts",
        code,
        message: message.to_owned(),
        retry_after,
        hidden: false,
        bot: Some("bot-example".to_owned()),
    };
    let denied = |message| refused(Code::PermissionDenied, message, nothing());
    let cluster = || "leaf.example".parse().unwrap();
    call_errors([
        ("final", Error::Net(client_refused())),
        ("once", Error::Net(not_tls())),
        ("", Error::Key(keys::Error("encoded"))),
        ("", Error::TooMany(too_many())),
        ("NotFound", refused(Code::NotFound, "role a is not found", nothing())),
        ("NotFound, too late", refused(Code::NotFound, "role a is not found", too_late())),
        ("locked", denied("lock targeting Role:\"a\" is in force")),
        ("older than 17", denied("ssh: no key found")),
        ("", denied("access denied")),
        ("in public", denied("access denied").without_details()),
        ("too late", refused(Code::PermissionDenied, "access denied", too_late())),
        ("Unavailable", refused(Code::Unavailable, "not now", nothing())),
        ("ResourceExhausted, asked", refused(Code::ResourceExhausted, "rate limit exceeded", asked())),
        ("ResourceExhausted, too late", refused(Code::ResourceExhausted, "rate limit exceeded", too_late())),
        ("DeadlineExceeded", refused(Code::DeadlineExceeded, "not now", nothing())),
        ("Aborted", refused(Code::Aborted, "not now", nothing())),
        ("Internal", refused(Code::Internal, "not now", nothing())),
        ("Internal, locked", refused(Code::Internal, "lock targeting User:\"a\" is in force", nothing())),
        ("Internal, older than 17", refused(Code::Internal, "ssh: no key found", nothing())),
        ("Unknown", refused(Code::Unknown, "no", nothing())),
        ("", Error::UnknownCluster { cluster: cluster(), known: vec!["a.example".to_owned(), "b.example".to_owned()] }),
        ("in public", Error::UnknownCluster { cluster: cluster(), known: Vec::new() }),
        ("", Error::ClosedCluster { cluster: cluster() }),
        ("", Error::NoAuthorities),
        ("", Error::NotARole { bot: "bot-example".to_owned(), role: "admin".to_owned() }),
        ("", Error::NoRoles { bot: "bot-example".to_owned() }),
    ])
}

fn credentials_errors() -> Vec<Sample> {
    use credentials::Error;
    final_errors([
        ("", Error::TooMany(too_many())),
        ("", Error::Unreadable("SSH certificate")),
        ("", Error::OtherKey("SSH")),
        ("", Error::NoPrincipals),
        ("", Error::CriticalOption("only-on-tuesdays@example.com".to_owned())),
        ("", Error::Expired { kind: "TLS", ago: approximate(MINUTE) }),
        ("", Error::NotYetValid { kind: "TLS", ahead: approximate(MINUTE), clock: Offset::from_seconds(60) }),
        ("", Error::TooLong { kind: "SSH", longer: approximate(MINUTE) }),
        ("", Error::NotSigned("TLS")),
        ("", Error::OtherHostAuthority),
        ("", Error::NoAuthority("host")),
    ])
}

fn destination_errors() -> Vec<Sample> {
    use destination::Error;
    let path = || PathBuf::from("/nowhere/tbot-user");
    let user = |uid| Owner { uid, gid: None };
    let not_permitted = |uid| Error::NotPermitted { doing: "write to", path: path(), uid };
    final_errors([
        ("", Error::BadPath { shown: String::new(), reason: "is empty" }),
        ("", Error::NoWorkingDirectory { path: path(), errno: Errno::NOENT }),
        ("leads somewhere", Error::Symlink { path: "/".into() }),
        ("leads nowhere", Error::Symlink { path: path() }),
        ("", Error::NotADirectory { path: path() }),
        ("", Error::NotAFile { path: path(), kind: "a directory" }),
        ("", Error::BadName { shown: "a/b".to_owned() }),
        ("", Error::UnknownFiles { path: path(), entries: Listing::from_iter(["a".to_owned()]) }),
        (
            "credentials are there",
            Error::OtherPurpose { path: path(), holds: "credentials", wanted: "files of inspect" },
        ),
        (
            "resources are there",
            Error::OtherPurpose { path: path(), holds: "files that inspect wrote", wanted: "credentials" },
        ),
        ("root", not_permitted(0)),
        ("", not_permitted(1000)),
        ("", Error::OtherOwner { path: path(), owner: 0, uid: 1000 }),
        ("", Error::CannotChown { path: path(), owner: user(1), uid: 1000 }),
        ("", Error::OtherUsers { path: path(), destination: path(), root: user(165536) }),
        ("not there", Error::OtherUsers { path: "/nowhere".into(), destination: path(), root: user(165536) }),
        ("", Error::OwnerOutside { path: path(), owner: user(1000), outside: Some(user(166536)) }),
        ("unmapped", Error::OwnerOutside { path: path(), owner: user(200000), outside: None }),
        ("", Error::ReadOnly { path: path() }),
        ("", Error::NoExec { path: path() }),
        ("", Error::DiskFull { path: path() }),
        ("", Error::Quota { path: path() }),
        ("", Error::FileSize { path: path() }),
        ("", Error::TooManyEntries { path: path() }),
        ("", Error::Busy { path: path() }),
        ("", Error::Late { path: path() }),
        ("", Error::Failed { doing: "write to", path: path(), errno: Errno::IO }),
    ])
}

fn guard_errors() -> Vec<Sample> {
    use guard::Error;
    use guard::reach::OutsideOfStep;
    let (destination, at) = (|| "tbot-user".to_owned(), || "bitbucket-pipelines.yml:7: artifacts".to_owned());
    let artifacts = |sure, pattern: &str| {
        let pattern = pattern.to_owned();
        Error::Artifacts { sure, taken: guard::Taken::Keys, destination: destination(), at: at(), pattern }
    };
    let other = |taken| {
        let (destination, at, pattern) = (destination(), at(), "**/x*".to_owned());
        Error::Artifacts { sure: false, taken, destination, at, pattern }
    };
    let sent = Error::Sent {
        program: "`rsync`".to_owned(),
        destination: destination(),
        at: at(),
        remedy: "add --exclude=/tbot-user to it".to_owned(),
    };
    let unchecked = Error::Unchecked { reason: "there is no bitbucket-pipelines.yml here".to_owned() };
    let cache = |sure| Error::Cache { sure, destination: destination(), at: at(), name: "all".to_owned() };
    let mut samples = final_errors([
        ("sure", artifacts(true, "**")),
        ("not sure", artifacts(false, "**")),
        ("named", artifacts(true, "tbot-user/**")),
        ("sure", cache(true)),
        ("not sure", cache(false)),
        ("network.json", other(guard::Taken::Network)),
        ("temporaries", other(guard::Taken::Temporaries)),
        ("core dumps", other(guard::Taken::CoreDumps)),
        ("", sent),
        ("", unchecked),
    ]);
    samples.extend(final_errors([
        ("", OutsideOfStep::NotShared("/tmp/tbot-user".to_owned())),
        ("", OutsideOfStep::PassedOn),
    ]));
    samples
}

/// What is wrong with the step, with a variable or with the machine.
fn input_errors() -> Vec<Sample> {
    let platform = platform::ALL[0];
    let variable = || "BITBUCKET_STEP_OIDC_TOKEN".to_owned();
    let github = platform::ALL[1];
    let addr = || "example.test:443".to_owned();
    let refused = |status| Refused::Status { status, message: "no".to_owned(), retry_after: RetryAfter::default() };
    let file = || platform::Error::File { platform, path: "/run/token".into(), source: io::ErrorKind::NotFound.into() };
    let mut samples = final_errors([
        ("", platform::Error::NoCi),
        ("", platform::Error::Several { platforms: vec![platform, github] }),
        ("", platform::Error::Missing { platform, variable: variable() }),
        ("", file()),
        ("", platform::Error::NotNamed { platform }),
        ("", platform::Error::Command { platform, program: "get-token".to_owned(), reason: reason() }),
        ("", platform::Error::NotAJwt { platform, place: variable() }),
        ("", platform::Error::NotAUrl { platform: github, variable: "ACTIONS_ID_TOKEN_REQUEST_URL" }),
        ("forbidden", platform::Error::Endpoint { platform: github, addr: addr(), source: refused(403) }),
        ("unavailable", platform::Error::Endpoint { platform: github, addr: addr(), source: refused(503) }),
        ("unreached", platform::Error::Endpoint { platform: github, addr: addr(), source: Refused::Net(not_tls()) }),
        ("", platform::Error::NoTokenInAnswer { platform: github, addr: addr() }),
        ("", platform::Error::Expired { platform, ago: approximate(MINUTE) }),
    ]);
    for platform in platform::ALL.into_iter().skip(1) {
        let error = platform::Error::Missing { platform, variable: "VARIABLE".to_owned() };
        samples.push(Sample::new(name(&error, platform.method), &error, None));
    }
    let wrong = |yaml: &str| tbot_yaml::TbotYaml::parse("tbot.yaml", yaml).unwrap_err();
    samples.extend(final_errors([
        ("version", wrong("version: v1")),
        ("no version", wrong("oneshot: true")),
        ("empty", wrong("")),
        ("unreadable", tbot_yaml::TbotYaml::read(Path::new("/nowhere/tbot.yaml")).unwrap_err()),
    ]));
    let error = wrong("version: v2\nfips: true");
    samples.push(Sample::new("tbot_yaml::Error (a key)".to_owned(), &error, None));
    let source = io::ErrorKind::NotFound.into();
    samples.extend(final_errors([("", join::token::FileError { path: "/run/token".into(), source })]));
    for scope in platform.scopes.iter().chain([&platform.widest_scope]) {
        let Err(error) = rule::Rule::new(platform, &claims("{}"), Some(scope)) else { panic!("{}", scope.name) };
        samples.extend(final_errors([(scope.name, error)]));
    }
    let invalid = invalid::Invalid::new("is too short", "Write a longer one.");
    samples.extend(final_errors([
        ("variable", invalid::Error::Missing { name: "TOKEN", example: "example-bot" }),
        ("flag", invalid::Error::Missing { name: "--token", example: "example-bot" }),
        ("", invalid::Error::MissingOutside { name: "PROXY_SERVER", example: "example.teleport.sh:443" }),
        ("", invalid.named("TOKEN", "a")),
        ("", invalid::Error::Unsupported { what: "--storage".to_owned(), instead: "Leave it out.".into() }),
    ]));
    let words = tbot::Error::samples();
    let others = [
        ("", tbot::Error::OfStart { flag: "--config" }),
        ("flag", tbot::Error::Usage("unexpected argument '--x' found".to_owned())),
        ("command", tbot::Error::Usage("unrecognized subcommand 'x'".to_owned())),
        ("", tbot::Error::Nothing),
    ];
    let others = others.map(|(case, error)| (case.to_owned(), error));
    let all: Vec<_> = words.into_iter().chain(others).collect();
    cover(all.iter().map(|(_, error)| error));
    samples.extend(all.iter().map(|(case, error)| Sample::new(name(error, case), error, None)));
    let unusable = |what| HostError::because(what)(io::ErrorKind::NotFound.into());
    samples.extend(final_errors([
        ("working directory", unusable(host::WORKING_DIRECTORY)),
        ("binary", unusable(host::BINARY)),
        ("other", unusable("the system's way to wait for network connections")),
    ]));
    let unnameable = |path: &str| ssh_config::ssh_config_path(Path::new(path)).unwrap_err();
    samples.extend(final_errors([("quote", unnameable("/a\"b")), ("variable", unnameable("/${a}"))]));
    samples
}

fn ssh_proxy_errors() -> Vec<Sample> {
    use ssh_proxy_command::Error;
    let (path, node) = (|| "/step/tbot-user/identity".to_owned(), || "node".to_owned());
    let refused = |code| Error::Refused { name: node(), reason: reason(), code };
    final_errors([
        ("final", Error::Net(client_refused())),
        ("once", Error::Net(not_tls())),
        ("", Error::Identity { path: path(), reason: reason() }),
        ("", Error::Network { path: path(), reason: reason() }),
        ("", Error::Expired { at: humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH) }),
        ("", Error::Node { name: node(), reason: reason(), remedy: None }),
        (
            "another name",
            Error::Node { name: node(), reason: reason(), remedy: Some("This reaches it: ssh a@b".to_owned()) },
        ),
        (
            "leaf cluster",
            Error::Node { name: node(), reason: "remote cluster \"a\" is not found".to_owned(), remedy: None },
        ),
        ("PermissionDenied", refused(Code::PermissionDenied)),
        ("ResourceExhausted", refused(Code::ResourceExhausted)),
        ("", Error::Ended { name: node(), reason: reason() }),
    ])
}

#[test]
fn each_type_has_samples_and_each_sample_its_name() {
    let samples = samples();
    let names: BTreeSet<_> = samples.iter().map(|sample| &sample.name).collect();
    assert_eq!(names.len(), samples.len());
    for path in SAMPLED {
        assert!(names.iter().any(|name| name.starts_with(path)), "no sample of {path}");
    }
}

/// Scripts and documents rely on these. They change only on purpose.
#[test]
fn exit_codes_retry_decisions_and_anchors() {
    let mut table = String::new();
    for Sample { name, exit, retry, anchor, .. } in samples() {
        let retry = match retry {
            None => "-",
            Some(Retry::No) => "no",
            Some(Retry::Once) => "once",
            Some(Retry::Yes) => "yes",
        };
        table += &format!("{name:<64} {} {retry:<4} {anchor}\n", exit as u8);
    }
    expect_file!["../../tests/it/golden/error_table.txt"].assert_eq(&table);
}

/// Which samples get which advice: all that follows the message.
#[test]
fn advice() {
    let mut groups: Vec<(String, String)> = Vec::new();
    for Sample { name, text, .. } in samples() {
        let (_, advice) = text.split_once('\n').unwrap();
        match groups.iter_mut().find(|(known, _)| known == advice) {
            Some((_, names)) => *names += &format!("# {name}\n"),
            None => groups.push((advice.to_owned(), format!("# {name}\n"))),
        }
    }
    let groups: Vec<_> = groups.into_iter().map(|(advice, names)| names + &advice).collect();
    let text = groups.join("\n").replace(concat!("/src/", env!("CARGO_PKG_VERSION"), "/"), "/src/VERSION/");
    expect_file!["../../tests/it/golden/error_advice.txt"].assert_eq(&text);
}

#[test]
fn each_error_has_its_section_and_each_section_its_error() {
    let anchors: BTreeSet<_> = samples().iter().map(|sample| sample.anchor.to_owned()).collect();
    let sections = troubleshooting::sections(&troubleshooting::parts().0);
    assert_eq!(anchors, sections.into_keys().collect());
}

#[test]
fn each_error_is_quoted_in_its_section_and_each_quote_is_an_error() {
    let (samples, mut unknown) = (samples(), Vec::new());
    let mut unquoted: Vec<_> = samples.iter().collect();
    for (anchor, text) in troubleshooting::sections(&troubleshooting::parts().0) {
        for quote in troubleshooting::quotes(&text) {
            let fits = |sample: &Sample| sample.anchor == anchor && troubleshooting::fits(quote, &sample.message);
            if !samples.iter().any(fits) {
                unknown.push(format!("{anchor}: {quote}"));
            }
            unquoted.retain(|sample| !fits(sample));
        }
    }
    let unquoted: Vec<_> = unquoted.iter().map(|sample| format!("{}: {}", sample.name, sample.message)).collect();
    assert!(unknown.is_empty() && unquoted.is_empty(), "unknown: {unknown:#?}, unquoted: {unquoted:#?}");
}
