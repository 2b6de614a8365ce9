//! Kubernetes: a pod has the token of its service account in a file. CI systems that have no ID tokens of their own, such as
//! Jenkins, run their jobs in pods.
//!
//! Facts: docs/protocol.md, "Other CIs".

use super::{Claims, OtherSource, Platform, ProviderField, Recipe, Scope, Source, Texts, TokenSource};
use crate::environment::Environment;
use crate::yaml::scalar;

pub(super) const PLATFORM: Platform = Platform {
    name: "Kubernetes",
    method: "kubernetes",
    is_here: |env| env.get("KUBERNETES_SERVICE_HOST").is_some(),
    runs_others: true,
    source: Source::File {
        variable: "KUBERNETES_TOKEN_PATH",
        path: "/var/run/secrets/kubernetes.io/serviceaccount/token",
    },
    other_source: Some(OtherSource {
        section: "kubernetes",
        key: "token_path",
        command: None,
        is_parameter: false,
        source: |path| Ok(TokenSource::File(path.into())),
    }),
    texts: Texts {
        unit: "pod",
        get_a_token: "In a pod of Kubernetes: mount a token of the service account, and name its file in KUBERNETES_TOKEN_PATH.",
        no_token: "The pod has `automountServiceAccountToken: false`, or no such volume.",
        enable: "Mount a token whose audience is the name of the cluster, and name its file in KUBERNETES_TOKEN_PATH:\n\
                 volumes:\n  - name: teleport-token\n    projected:\n      sources:\n        - serviceAccountToken:\n            \
                 path: token\n            audience: example.teleport.sh\n            expirationSeconds: 600",
        not_a_jwt: "Name the file of a service account's token.",
        issued: "Kubernetes renews the file before the token expires.",
        values: "the namespace and the name of the pod's service account",
        carried_out: "The containers that mount that directory see the files.",
        file: "the manifest of the pod",
        to_complete: "\
# Put the keys of your Kubernetes cluster in: `kubectl get --raw /openid/v1/jwks` prints them. If the Auth Service runs in
# the same Kubernetes cluster, write `type: in_cluster` instead, without `static_jwks`.\n",
        ..Texts::GENERAL
    },
    claims: &["iss", "sub", "/kubernetes.io/namespace", "/kubernetes.io/serviceaccount/name", "/kubernetes.io/pod/name"],
    derived_claims: &[("service_account", service_account)],
    summary: &[("service account", "", "service_account")],
    required_claims: &["iss", "sub", "/kubernetes.io/pod/name"],
    provider_fields: &[
        ("type", ProviderField::Text("static_jwks")),
        ("static_jwks.jwks", ProviderField::Text("{\"keys\":[...]}")),
    ],
    widest_scope: Scope {
        name: "service-account",
        claim: "service_account",
        fields: &[("service_account", "service_account")],
        named_by: &["/kubernetes.io/namespace", "/kubernetes.io/serviceaccount/name"],
        comment: "\
# Every pod with this service account.",
        lacking: "the token is not one of a service account",
        cause: "The token is not one of Kubernetes.",
        ..Scope::GENERAL
    },
    recipe,
    ..Platform::GENERAL
};

/// `<namespace>:<name>`, in the subject `system:serviceaccount:<namespace>:<name>`.
fn service_account(claims: &Claims) -> Option<String> {
    Some(claims.literal("sub")?.strip_prefix("system:serviceaccount:")?.to_owned())
}

fn recipe(_: &Environment, Recipe { proxy, token, cluster, .. }: &Recipe<'_>) -> String {
    format!(
        "\
containers:
  - name: teleport-pipe
    image: ghcr.io/ORGANISATION/teleport-pipe:{}
    env:
      - {{ name: PROXY_SERVER, value: {} }}
      - {{ name: TOKEN, value: {} }}
      - {{ name: JOIN_METHOD, value: kubernetes }}
      - {{ name: KUBERNETES_TOKEN_PATH, value: /var/run/secrets/teleport/token }}
    volumeMounts:
      - {{ name: teleport-token, mountPath: /var/run/secrets/teleport }}
volumes:
  - name: teleport-token
    projected:
      sources:
        - serviceAccountToken: {{ path: token, audience: {}, expirationSeconds: 600 }}
",
        env!("CARGO_PKG_VERSION"),
        scalar::quoted(proxy),
        scalar::quoted(token),
        scalar::quoted(cluster),
    )
}
