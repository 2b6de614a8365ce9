//! A row of `idp/methods.rs` is all that a join method with ID tokens needs.

use testcluster::{AllowRule, Testcluster};
use tonic::Code;

use crate::client::{Bot, Key, client_init, join_with, oidc_init};

#[tokio::test]
async fn a_gitlab_job_joins() {
    let rule = AllowRule::new([("project_path", "acme/*"), ("ref_protected", "true")]);
    let cluster = Testcluster::builder().join_method("gitlab", [rule]).start();
    Bot::join(&cluster).await;

    let fork = cluster.mint(|claims| drop(claims.insert("project_path".into(), "mallory/infrastructure".into())));
    let refused = join_with(&cluster, client_init(&cluster), oidc_init(&Key::new(), &fork)).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().ends_with("id token claims did not match any allow rules"), "{refused}");

    let mut other = client_init(&cluster);
    other.join_method = Some("bitbucket".into());
    let refused = join_with(&cluster, other, oidc_init(&Key::new(), &cluster.step_token())).await.err().unwrap();
    assert!(refused.message().ends_with("provision token only supports method gitlab"), "{refused}");
}
