//! The environment of a Bitbucket step (docs/protocol.md, "Pipe variables").

use std::path::Path;

use crate::idp::methods::{BRANCH, PIPELINE_UUID, REPOSITORY, REPOSITORY_UUID, STEP_UUID, WORKSPACE, WORKSPACE_UUID};

/// The variables that a step with `oidc: true` passes to a pipe.
pub(crate) fn environment(clone_dir: &Path, token: &str) -> Vec<(String, String)> {
    let repository = format!("{WORKSPACE}/{REPOSITORY}");
    let http_origin = format!("http://bitbucket.org/{repository}");
    let ssh_origin = format!("git@bitbucket.org:{repository}.git");
    let clone_dir = clone_dir.to_string_lossy();
    let pipes = format!("{clone_dir}/.bitbucket/pipelines/generated/pipeline/pipes");
    let storage = format!("{pipes}/{WORKSPACE}/teleport-pipe");
    [
        ("CI", "true"),
        ("BITBUCKET_BRANCH", BRANCH),
        ("BITBUCKET_BUILD_NUMBER", "42"),
        ("BITBUCKET_CLONE_DIR", &clone_dir),
        ("BITBUCKET_COMMIT", "7f6b1a0c5d2e4f3a9b8c7d6e5f4a3b2c1d0e9f8a"),
        ("BITBUCKET_GIT_HTTP_ORIGIN", &http_origin),
        ("BITBUCKET_GIT_SSH_ORIGIN", &ssh_origin),
        ("BITBUCKET_PIPELINE_UUID", PIPELINE_UUID),
        ("BITBUCKET_PIPE_SHARED_STORAGE_DIR", &pipes),
        ("BITBUCKET_PIPE_STORAGE_DIR", &storage),
        ("BITBUCKET_PROJECT_KEY", "OPS"),
        ("BITBUCKET_PROJECT_UUID", "{c2d1e0f9-8a7b-4c6d-9e5f-4a3b2c1d0e9f}"),
        ("BITBUCKET_REPO_FULL_NAME", &repository),
        ("BITBUCKET_REPO_IS_PRIVATE", "true"),
        ("BITBUCKET_REPO_OWNER", WORKSPACE),
        ("BITBUCKET_REPO_OWNER_UUID", WORKSPACE_UUID),
        ("BITBUCKET_REPO_SLUG", REPOSITORY),
        ("BITBUCKET_REPO_UUID", REPOSITORY_UUID),
        ("BITBUCKET_STEP_OIDC_TOKEN", token),
        ("BITBUCKET_STEP_RUN_NUMBER", "1"),
        ("BITBUCKET_STEP_TRIGGERER_UUID", "{d3e2f1a0-9b8c-4d7e-8f6a-5b4c3d2e1f0a}"),
        ("BITBUCKET_STEP_UUID", STEP_UUID),
        ("BITBUCKET_WORKSPACE", WORKSPACE),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
