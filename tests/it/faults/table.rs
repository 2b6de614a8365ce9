//! Which fault makes sense at which point, and how both are called.

use testcluster::{Code, Exchange, Point, Route, Trouble, Weather};

use super::Cell;

/// The beginning of `docs/faults.md`.
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
    use Exchange::{Find, GetRole, Greeting, HostAuthorities, Proof, RestJoin, UserAuthorities, UserCerts};
    use Point::{Accept, After, Before, Handshake};
    use Trouble::{
        CertExpired, CertForOtherKey, CertForOtherName, CertOfOtherCa, Close, EmptyList, Garbage, GoAway, Http,
        ManyRoles, Oversized, Page, Refuse, Reset, ResetStream, Slow, Stall, Status, Truncated,
    };
    const BUSY: Trouble = Status(Code::ResourceExhausted, None);
    const DOWN: Trouble = Status(Code::Unavailable, None);
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
    let spoilt = [Close, Stall, Truncated, Garbage, Oversized];
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
    let mut add = |point, troubles: &[&[Trouble]]| {
        for trouble in troubles.iter().copied().flatten().copied() {
            let often: &[bool] = match (trouble, point) {
                // It takes seconds, and is about what the bot asks for then.
                (ManyRoles, _) => &[false],
                // Whether the calls at the same time are through by then, and the next one on its way, is chance.
                (GoAway, Before(GetRole | HostAuthorities | UserAuthorities)) => &[true],
                _ => &[true, false],
            };
            for once in often.iter().copied() {
                cells.push(Cell { weather: Weather { point, trouble, once } });
            }
        }
    };
    add(Accept, &[&[Refuse], &broken]);
    for route in [Route::Web, Route::Join, Route::Auth] {
        add(Handshake(route), &[&handshake]);
    }
    add(Before(Find), &[&broken, &answers, &[Page(404)]]);
    add(After(Find), &[&spoilt]);
    add(Before(Greeting), &[&broken, &calls]);
    add(After(Greeting), &[&spoilt, &[ResetStream, GoAway, DOWN, BUSY]]);
    add(Before(Proof), &[&broken, &[ResetStream, GoAway, DOWN, BUSY, Status(Code::ResourceExhausted, Some(2))]]);
    add(After(Proof), &[&spoilt, &[ResetStream, GoAway, DOWN]]);
    add(Before(RestJoin), &[&broken, &answers]);
    add(After(RestJoin), &[&spoilt]);
    add(Before(GetRole), &[&broken, &calls]);
    add(After(GetRole), &[&spoilt, &[ResetStream, EmptyList, ManyRoles]]);
    add(Before(HostAuthorities), &[&few]);
    add(After(HostAuthorities), &[&spoilt, &[EmptyList]]);
    add(Before(UserAuthorities), &[&few]);
    add(After(UserAuthorities), &[&spoilt, &[EmptyList]]);
    add(Before(UserCerts), &[&broken, &calls]);
    add(After(UserCerts), &[&spoilt, &[ResetStream, GoAway]]);
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
        Exchange::Greeting => "the greeting of the join service",
        Exchange::Proof => "the join by the join service",
        Exchange::GetRole => "GetRole",
        Exchange::HostAuthorities => "GetCertAuthorities (host)",
        Exchange::UserAuthorities => "GetCertAuthorities (user)",
        Exchange::UserCerts => "GenerateUserCerts",
        Exchange::Dial => "ProxySSH",
    }
}

pub(super) fn trouble(trouble: Trouble) -> String {
    let wait = |wait: Option<u32>| wait.map(|wait| format!(", Retry-After: {wait}")).unwrap_or_default();
    match trouble {
        Trouble::Refuse => "connection refused".to_owned(),
        Trouble::Close => "connection closed".to_owned(),
        Trouble::Reset => "connection reset".to_owned(),
        Trouble::Cut => "bytes vanish".to_owned(),
        Trouble::Stall => "silence".to_owned(),
        Trouble::Slow => "10 s late".to_owned(),
        Trouble::Garbage => "garbage".to_owned(),
        Trouble::Truncated => "half an answer".to_owned(),
        Trouble::Oversized => "an answer of many megabytes".to_owned(),
        Trouble::Page(status) => format!("HTTP {status} with a page"),
        Trouble::Http(status, seconds) => format!("HTTP {status}{}", wait(seconds)),
        Trouble::Status(code, seconds) => format!("{code:?}{}", wait(seconds)),
        Trouble::ResetStream => "RST_STREAM".to_owned(),
        Trouble::GoAway => "GOAWAY".to_owned(),
        Trouble::CertForOtherKey => "certificate for another key".to_owned(),
        Trouble::CertExpired => "certificate expired".to_owned(),
        Trouble::CertForOtherName => "certificate for another name".to_owned(),
        Trouble::CertOfOtherCa => "certificate of another authority".to_owned(),
        Trouble::EmptyList => "an empty list".to_owned(),
        Trouble::ManyRoles => "100 000 roles".to_owned(),
    }
}
