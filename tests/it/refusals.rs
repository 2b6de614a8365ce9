//! Errors that end a run before the first request, and refusals of the cluster.

use testcluster::{
    AllowRule, Builder, Code, Exchange, Fault, FaultInjection, JoinService, NetworkFault, Point, Role, Testcluster,
};

use crate::failure::{Failure, check};
use crate::harness::stories;
use crate::machine::TIME;
use crate::step::Step;

stories! {
    a_public_log_hides_the_text_of_a_temporary_refusal,
    invalid_variables_end_the_run,
    invalid_scopes_end_the_run,
    invalid_flags_end_the_run,
    invalid_id_tokens_end_the_run,
    refused_joins_end_the_run needs TIME,
    invalid_certificates_are_refused,
    no_terminal_escapes_of_the_cluster_reach_the_log,
    a_role_without_logins_is_a_warning,
}

/// The variable that holds the step's ID token.
pub(crate) const TOKEN: &str = "BITBUCKET_STEP_OIDC_TOKEN";

/// The text of the Auth Service may name roles, also in a line about a retry.
fn a_public_log_hides_the_text_of_a_temporary_refusal() {
    let (point, fault) = (Point::Before(Exchange::GetRole), NetworkFault::Status(Code::Internal, None));
    let cluster = Testcluster::builder().inject(FaultInjection { point, fault, once: true }).start();
    let output = Step::new(&cluster).env("BITBUCKET_REPO_IS_PRIVATE", "false").pipe().ok();
    let line = "the Auth Service refused GetRole: what it said is shown with DEBUG only (Internal); trying again";
    assert!(output.stderr.contains(line), "{}", output.stderr);
}

/// Variables of the pipe that are missing or wrong.
pub(crate) fn variables() -> Vec<Failure> {
    let missing = |name, variable: &'static str| Failure::new(name, 2).with(move |step, _| step.without(variable));
    let wrong = |name, variable, value| Failure::new(name, 2).env(variable, value);
    vec![
        missing("proxy-server-missing", "PROXY_SERVER"),
        missing("token-missing", "TOKEN"),
        wrong("proxy-server-empty", "PROXY_SERVER", " "),
        wrong("proxy-server-with-http", "PROXY_SERVER", "http://example.teleport.sh:443"),
        wrong("proxy-server-with-path", "PROXY_SERVER", "https://example.teleport.sh/web/login"),
        wrong("proxy-server-of-two-words", "PROXY_SERVER", "example.teleport.sh 443"),
        wrong("proxy-server-in-quotes", "PROXY_SERVER", "\"example.teleport.sh:443\""),
        wrong("proxy-server-with-user", "PROXY_SERVER", "me@example.teleport.sh:443"),
        wrong("proxy-server-with-strange-port", "PROXY_SERVER", "example.teleport.sh:https"),
        wrong("proxy-server-with-zero-width-space", "PROXY_SERVER", "localhost:43823\u{200b}"),
        wrong("proxy-server-with-byte-order-mark", "PROXY_SERVER", "\u{feff}localhost:43823"),
        wrong("proxy-server-is-a-variable", "PROXY_SERVER", "$PROXY_SERVER"),
        Failure::new("proxy-server-is-an-id-token", 2)
            .with(|step, cluster| step.env("PROXY_SERVER", &cluster.step_token())),
        wrong("token-in-quotes", "TOKEN", "'example-bot'"),
        Failure::new("token-is-an-id-token", 2).with(|step, cluster| step.env("TOKEN", &cluster.step_token())),
        wrong("token-with-zero-width-space", "TOKEN", "example-bot\u{200b}"),
        wrong("token-is-a-variable", "TOKEN", "${JOIN_TOKEN}"),
        wrong("token-is-the-proxy", "TOKEN", "example.teleport.sh:443"),
        wrong("destination-in-home", "DESTINATION", "~/tbot-user"),
        wrong("ttl-without-unit", "TTL", "3600"),
        wrong("ttl-too-short", "TTL", "30s"),
        wrong("ttl-of-months", "TTL", "30M"),
        wrong("ttl-is-not-a-duration", "TTL", "one hour"),
        wrong("ttl-with-no-break-space", "TTL", "1\u{a0}h"),
        Failure::new("ttl-is-an-id-token", 2).with(|step, cluster| step.env("TTL", &cluster.step_token())),
        wrong("cluster-is-an-address", "CLUSTER", "https://leaf.example.com"),
        Failure::new("cluster-is-an-id-token", 2).with(|step, cluster| step.env("CLUSTER", &cluster.step_token())),
        wrong("timeout-of-zero", "TIMEOUT", "0s"),
        wrong("leak-check-maybe", "LEAK_CHECK", "false"),
        wrong("debug-maybe", "DEBUG", "maybe"),
        wrong("file-owner-is-a-name", "FILE_OWNER", "deploy"),
    ]
}

/// A scope of the join token that the step does not have.
pub(crate) fn scopes() -> Vec<Failure> {
    let inspect = |name, scope: &'static str, without: &'static str| {
        Failure::new(name, 2).with(move |step, cluster| {
            let token = cluster.mint(|claims| drop(claims.remove(without)));
            step.env("ACTION", "inspect").env("SCOPE", scope).env(TOKEN, &token)
        })
    };
    vec![
        inspect("scope-deployment-not-there", "deployment", "deploymentEnvironmentUuid"),
        inspect("scope-branch-not-there", "branch", "branchName"),
        inspect("scope-workspace-not-there", "workspace", "workspaceUuid"),
        inspect("scope-unknown", "tag", "branchName"),
    ]
}

/// Flags of tbot that are missing, wrong or not supported yet.
pub(crate) fn flags() -> Vec<Failure> {
    macro_rules! identity {
        ($name:literal, $($flag:literal),+) => {
            Failure::new($name, 2).args(&["start", "identity", $($flag),+])
        };
    }
    vec![
        identity!("flag-proxy-server-missing", "--destination=./tbot-user", "--token=example-bot", "--oneshot"),
        identity!("flag-token-missing", "--destination=./tbot-user", "--proxy-server=p", "--oneshot"),
        identity!("flag-destination-missing", "--proxy-server=p", "--token=example-bot", "--oneshot"),
        identity!("flag-oneshot-missing", "--destination=d", "--proxy-server=p", "--token=t"),
        identity!("flag-join-method-iam", "--oneshot", "--join-method=iam"),
        identity!("flag-storage-directory", "--oneshot", "--storage=/var/lib/teleport/bot"),
        identity!("flag-destination-memory", "--oneshot", "--proxy-server=p", "--token=t", "--destination=memory://"),
        identity!("flag-destination-host", "--oneshot", "--proxy-server=p", "--token=t", "--destination=file://tmp/x"),
        identity!(
            "flag-certificate-ttl",
            "--oneshot",
            "--proxy-server=p",
            "--token=t",
            "--destination=d",
            "--certificate-ttl=60"
        ),
        identity!("flag-unknown", "--oneshot", "--auth-server=teleport.example.com:3025"),
        Failure::new("command-unknown", 2).args(&["start", "database", "--oneshot"]),
    ]
}

/// A missing or unusable ID token.
pub(crate) fn id_tokens() -> Vec<Failure> {
    vec![
        Failure::new("id-token-missing-in-bitbucket", 3).with(|step, _| step.without(TOKEN)),
        Failure::new("id-token-missing-outside-of-ci", 3)
            .with(|step, _| step.without(TOKEN).without("BITBUCKET_BUILD_NUMBER")),
        Failure::new("id-token-is-not-a-jwt", 3).env(TOKEN, "$BITBUCKET_STEP_OIDC_TOKEN"),
        Failure::new("id-token-expired", 3).with(|step, cluster| {
            let expired = cluster.mint(|claims| {
                let now = claims["iat"].as_u64().unwrap();
                claims.insert("iat".into(), (now - 7200).into());
                claims.insert("exp".into(), (now - 3600).into());
            });
            step.env(TOKEN, &expired)
        }),
    ]
}

fn with_claim(name: &'static str, value: &'static str) -> impl Fn(Step, &Testcluster) -> Step {
    move |step, cluster| {
        let token = cluster.mint(|claims| drop(claims.insert(name.into(), value.into())));
        step.env(TOKEN, &token)
    }
}

/// A cluster whose join token admits another branch only.
fn other_branch() -> Builder {
    let rule = AllowRule::new([("workspace_uuid", testcluster::WORKSPACE_UUID), ("branch_name", "production")]);
    Testcluster::builder().allow([rule])
}

/// The cluster without the join service, like version 17.
fn by_rest(cluster: Builder) -> Builder {
    cluster.join_service(JoinService::Absent)
}

fn public(step: Step, _: &Testcluster) -> Step {
    step.env("BITBUCKET_REPO_IS_PRIVATE", "false")
}

/// Joins that are refused.
pub(crate) fn joins() -> Vec<Failure> {
    let builder = Testcluster::builder;
    let refused = |name| Failure::new(name, 4);
    vec![
        refused("join-token-unknown").env("TOKEN", "exampel-bot"),
        refused("join-token-unknown-to-an-old-cluster")
            .at(by_rest(builder()).version("16.4.0"))
            .env("TOKEN", "exampel-bot"),
        refused("join-token-unknown-in-public").with(|step, cluster| public(step, cluster).env("TOKEN", "exampel-bot")),
        refused("join-token-of-the-guide").env("TOKEN", "bot-bitbucket"),
        refused("join-token-like-a-secret").env("TOKEN", "4c2e0d5b8f6a41d7a1c93e0b5d7f2a68"),
        refused("join-token-unknown-by-rest").at(by_rest(builder())).env("TOKEN", "exampel-bot"),
        refused("rule-does-not-fit").at(other_branch()),
        refused("rule-does-not-fit-by-rest").at(by_rest(other_branch())),
        refused("rule-does-not-fit-with-flags")
            .at(other_branch())
            .args(&["start", "identity", "--oneshot", "--destination=d"])
            .with(|step, _| {
                let (proxy, token) = (step.variable("PROXY_SERVER").to_owned(), step.variable("TOKEN").to_owned());
                step.env("TELEPORT_PROXY", &proxy).env("TELEPORT_BOT_TOKEN", &token)
            }),
        refused("rule-does-not-fit-in-public").at(other_branch()).with(public),
        refused("rule-does-not-fit-in-public-with-debug")
            .at(by_rest(other_branch()))
            .with(|step, cluster| public(step, cluster).env("DEBUG", "true")),
        refused("audience-wrong").with(with_claim("aud", "sts.example.com")),
        refused("audience-wrong-by-rest").at(by_rest(builder())).with(with_claim("aud", "sts.example.com")),
        refused("audience-wrong-in-public")
            .with(|step, cluster| with_claim("aud", "sts.example.com")(public(step, cluster), cluster)),
        refused("issuer-wrong-in-public")
            .with(|step, cluster| with_claim("iss", "https://example.com")(public(step, cluster), cluster)),
        refused("issuer-wrong").with(with_claim("iss", "https://api.bitbucket.org/2.0/workspaces/other/oidc")),
        refused("issuer-not-reached").at(builder().identity_provider_url("https://bitbucket.example.com/oidc")),
        refused("signature-wrong").with(|step, cluster| step.env(TOKEN, &cluster.mint_with_bad_signature())),
        refused("clock-of-the-cluster-ahead").at(builder().clock_offset(2 * 3600)).with(with_token_by_local_clock),
        refused("clock-of-the-cluster-behind").at(builder().clock_offset(-2 * 3600)).with(with_token_by_local_clock),
        refused("error-text-with-escapes").at(builder().fault(Fault::ErrorTextWithEscapes)),
        refused("error-text-with-escapes-by-rest").at(by_rest(builder().fault(Fault::ErrorTextWithEscapes))),
        refused("no-join-endpoint").at(by_rest(builder()).rest_join(false)),
    ]
}

/// Replaces the token, which is by the cluster's clock, with one by the local clock.
fn with_token_by_local_clock(step: Step, cluster: &Testcluster) -> Step {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let token = cluster.mint(|claims| {
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), (now + 3600).into());
    });
    step.env(TOKEN, &token)
}

fn with_leaf_clusters() -> Builder {
    Testcluster::builder().leaf_cluster("leaf.example.com").denied_leaf_cluster("closed.example.com")
}

/// Failures after the join: no certificates, or invalid ones.
pub(crate) fn certificates() -> Vec<Failure> {
    let faulty = |name, fault| Failure::new(name, 4).at(Testcluster::builder().fault(fault));
    let roles = |name, roles: &[&str]| {
        Failure::new(name, 4).at(Testcluster::builder().impersonated_roles(roles.iter().copied()))
    };
    vec![
        roles("bot-without-roles", &[]),
        roles("role-missing", &["example-role", "deleted-role"]),
        roles("role-missing-in-public", &["example-role", "deleted-role"]).with(public),
        Failure::new("cluster-unknown", 2).at(with_leaf_clusters()).env("CLUSTER", "leaf.example.org"),
        Failure::new("cluster-unknown-in-public", 2)
            .at(with_leaf_clusters())
            .with(|step, cluster| public(step, cluster).env("CLUSTER", "leaf.example.org")),
        Failure::new("leaf-cluster-denied", 4).at(with_leaf_clusters()).env("CLUSTER", "closed.example.com"),
        faulty("certificate-without-principals", Fault::NoPrincipals),
        faulty("certificate-for-another-key", Fault::CertForOtherKey),
        faulty("certificate-expired", Fault::ExpiredUserCert),
        faulty("certificate-lives-too-long", Fault::UserCertTtlLongerThanAsked),
        faulty("certificate-of-the-bot-for-another-key", Fault::JoinCertForOtherKey),
        faulty("ssh-certificate-of-another-authority", Fault::SshCertOfOtherCa),
        faulty("tls-certificate-of-another-authority", Fault::TlsCertOfOtherCa),
        faulty("host-ca-of-another-cluster", Fault::WrongHostCa),
        faulty("no-certificate-authorities", Fault::EmptyCaList),
    ]
}

fn invalid_variables_end_the_run() {
    check(variables());
}

fn invalid_scopes_end_the_run() {
    check(scopes());
}

fn invalid_flags_end_the_run() {
    check(flags());
}

fn invalid_id_tokens_end_the_run() {
    check(id_tokens());
}

fn refused_joins_end_the_run() {
    check(joins());
}

fn invalid_certificates_are_refused() {
    check(certificates());
}

fn no_terminal_escapes_of_the_cluster_reach_the_log() {
    for service in [JoinService::Present, JoinService::Absent] {
        let cluster = Testcluster::builder().join_service(service).fault(Fault::ErrorTextWithEscapes).start();
        let step = Step::new(&cluster).env("DEBUG", "true");
        let output = step.pipe();
        assert_eq!(output.status, Some(4), "{}", output.stderr);
        assert!(output.stderr.contains("policy"), "{}", output.stderr);
        // Control characters and characters that change the direction of text can hide text.
        let visible = |c: char| c == '\n' || !(c.is_control() || ('\u{200b}'..='\u{206f}').contains(&c));
        let hidden: Vec<char> = output.stderr.chars().filter(|c| !visible(*c)).collect();
        assert_eq!(hidden, [], "{}", output.stderr.escape_debug());
    }
}

fn a_role_without_logins_is_a_warning() {
    let cluster = Testcluster::builder().role(Role::new("example-role", Vec::<String>::new())).start();
    let step = Step::new(&cluster);
    let output = step.pipe().ok();
    assert!(output.stderr.contains("warning: no role of the bot allows a login"), "{}", output.stderr);
}
