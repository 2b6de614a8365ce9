//! The faults of each point, and the names of both in the table.

use testcluster::{Code, Exchange, FaultInjection, NetworkFault, Point, Route};

use super::Cell;

/// The beginning of `docs/reference/faults.md`.
pub(super) const HEAD: &str = "\
# A fault at every point

This table shows how a run ends when one thing goes wrong, once or always. `tests/it/faults.rs` makes COUNT runs against a
test cluster and compares them with the table. It also checks that each run ends in time, that the destination is
complete or absent, that no secret is in the log, that no request is made more than seven times, and that no request
comes earlier than the server asks (`Retry-After`). Faults of name servers are in `tests/it/resolver.rs`.

`point` says when the fault happens. *Before* means that the request has arrived and was not processed; *after* means
that it was processed and the answer is due. `exit` is the exit status. `joins` is how often the cluster joined the bot:
an ID token may be used more than once, and a join whose answer was lost is requested again. `-` means that the join
runs beside the failing request, so that its result is chance. TIMEOUT was 12 s for faults in which a server stays
silent in every attempt, else 60 s.

`UPDATE_EXPECT=1 cargo test --test it faults::` writes this page again.

| point | fault | how often | exit | joins | |
|---|---|---|---|---|---|
";

/// All cells, in the order of a run.
pub(super) fn cells() -> Vec<Cell> {
    use Exchange::{ClientInit, Find, GetRole, HostAuthorities, OidcInit, RestJoin, UserAuthorities, UserCerts};
    use NetworkFault::{
        CertExpired, CertForOtherKey, CertForOtherName, CertOfOtherCa, Close, EmptyList, Garbage, GoAway, Http,
        ManyRoles, Oversized, Page, Refuse, Reset, ResetStream, Slow, Stall, Status, Truncated,
    };
    use Point::{Accept, After, Before, Handshake};
    const BUSY: NetworkFault = Status(Code::ResourceExhausted, None);
    const DOWN: NetworkFault = Status(Code::Unavailable, None);
    let handshake =
        [Close, Reset, Stall, Slow, Truncated, Garbage, CertForOtherKey, CertExpired, CertForOtherName, CertOfOtherCa];
    let answers = [
        Http(429, None),
        Http(429, Some(2)),
        Http(429, Some(120)),
        Http(500, None),
        Page(502),
        Http(503, None),
        Http(503, Some(2)),
        Http(504, None),
        Page(200),
    ];
    let broken = [Close, Reset, Stall, Slow];
    let damaged = [Close, Stall, Truncated, Garbage, Oversized];
    let calls = [
        ResetStream,
        GoAway,
        BUSY,
        Status(Code::ResourceExhausted, Some(2)),
        Status(Code::ResourceExhausted, Some(120)),
        DOWN,
        Status(Code::DeadlineExceeded, None),
        Status(Code::Internal, None),
        Status(Code::PermissionDenied, None),
        Page(200),
        Page(502),
        Http(429, Some(2)),
        Http(503, None),
    ];
    let few = [Close, Stall, ResetStream, GoAway, DOWN, Page(502)];

    let mut cells = Vec::new();
    let mut add = |point, faults: &[&[NetworkFault]]| {
        for fault in faults.iter().copied().flatten().copied() {
            let often: &[bool] = match (fault, point) {
                // This takes seconds, and only concerns the next request of the bot.
                (ManyRoles, _) => &[false],
                // Simultaneous calls may be complete by then or not, so the result of a single fault varies.
                (GoAway, Before(GetRole | HostAuthorities | UserAuthorities)) => &[true],
                _ => &[true, false],
            };
            for once in often.iter().copied() {
                cells.push(Cell { injection: FaultInjection { point, fault, once } });
            }
        }
    };
    add(Accept, &[&[Refuse], &broken]);
    for route in [Route::Web, Route::Join, Route::Auth] {
        add(Handshake(route), &[&handshake]);
    }
    add(Before(Find), &[&broken, &answers, &[Page(404)]]);
    add(After(Find), &[&damaged]);
    add(Before(ClientInit), &[&broken, &calls]);
    add(After(ClientInit), &[&damaged, &[ResetStream, GoAway, DOWN, BUSY]]);
    add(Before(OidcInit), &[&broken, &[ResetStream, GoAway, DOWN, BUSY, Status(Code::ResourceExhausted, Some(2))]]);
    add(After(OidcInit), &[&damaged, &[ResetStream, GoAway, DOWN]]);
    add(Before(RestJoin), &[&broken, &answers]);
    add(After(RestJoin), &[&damaged]);
    add(Before(GetRole), &[&broken, &calls]);
    add(After(GetRole), &[&damaged, &[ResetStream, EmptyList, ManyRoles]]);
    add(Before(HostAuthorities), &[&few]);
    add(After(HostAuthorities), &[&damaged, &[EmptyList]]);
    add(Before(UserAuthorities), &[&few]);
    add(After(UserAuthorities), &[&damaged, &[EmptyList]]);
    add(Before(UserCerts), &[&broken, &calls]);
    add(After(UserCerts), &[&damaged, &[ResetStream, GoAway]]);
    cells
}

pub(super) fn point(point: Point) -> String {
    match point {
        Point::Accept => "TCP".to_owned(),
        Point::Handshake(Route::Web) => "TLS to the web".to_owned(),
        Point::Handshake(Route::Join) => "TLS to the join service".to_owned(),
        Point::Handshake(route) => format!("TLS to {route:?}"),
        Point::Before(exchange) => format!("before {}", name(exchange)),
        Point::After(exchange) => format!("after {}", name(exchange)),
    }
}

fn name(exchange: Exchange) -> &'static str {
    match exchange {
        Exchange::Find => "discovery",
        Exchange::RestJoin => "the join by REST",
        Exchange::ClientInit => "the greeting of the join service",
        Exchange::OidcInit => "the join by the join service",
        Exchange::GetRole => "GetRole",
        Exchange::HostAuthorities => "GetCertAuthorities (host)",
        Exchange::UserAuthorities => "GetCertAuthorities (user)",
        Exchange::UserCerts => "GenerateUserCerts",
        Exchange::Dial => "ProxySSH",
    }
}

pub(super) fn fault(fault: NetworkFault) -> String {
    let wait = |wait: Option<u32>| wait.map(|wait| format!(", Retry-After: {wait}")).unwrap_or_default();
    match fault {
        NetworkFault::Refuse => "connection refused".to_owned(),
        NetworkFault::Close => "connection closed".to_owned(),
        NetworkFault::Reset => "connection reset".to_owned(),
        NetworkFault::Blackhole => "bytes vanish".to_owned(),
        NetworkFault::Stall => "silence".to_owned(),
        NetworkFault::Slow => "10 s late".to_owned(),
        NetworkFault::Garbage => "garbage".to_owned(),
        NetworkFault::Truncated => "half an answer".to_owned(),
        NetworkFault::Oversized => "an answer of many megabytes".to_owned(),
        NetworkFault::Page(status) => format!("HTTP {status} with a page"),
        NetworkFault::Http(status, seconds) => format!("HTTP {status}{}", wait(seconds)),
        NetworkFault::Status(code, seconds) => format!("{code:?}{}", wait(seconds)),
        NetworkFault::ResetStream => "RST_STREAM".to_owned(),
        NetworkFault::GoAway => "GOAWAY".to_owned(),
        NetworkFault::CertForOtherKey => "certificate for another key".to_owned(),
        NetworkFault::CertExpired => "certificate expired".to_owned(),
        NetworkFault::CertForOtherName => "certificate for another name".to_owned(),
        NetworkFault::CertOfOtherCa => "certificate of another authority".to_owned(),
        NetworkFault::EmptyList => "an empty list".to_owned(),
        NetworkFault::ManyRoles => "100 000 roles".to_owned(),
    }
}
