//! The line into which Bitbucket turns a `pipe:` item (docs/protocol.md, "How a pipe runs"); `emulator.rs` runs another
//! one.

use std::path::Path;

use crate::docker::program;

/// Where Bitbucket clones to, outside of containers and in them.
pub(crate) const BUILD: &str = "/opt/atlassian/pipelines/agent/build";

/// What the line is made of.
#[derive(Debug)]
pub(crate) struct PipeLine<'a> {
    /// The clone directory, here. Bitbucket's is at [`BUILD`] outside of the containers, too.
    pub(crate) clone_dir: &'a Path,
    /// How it is mounted beyond that: `:ro` or nothing.
    pub(crate) mount: &'a str,
    /// Directory of the step's SSH key.
    pub(crate) ssh_dir: &'a Path,
    /// The directory that the step's script is in.
    pub(crate) workdir: &'a str,
    /// Names of the step's variables, which the shell has.
    pub(crate) environment: Vec<&'a str>,
    /// The item's `variables`.
    pub(crate) variables: &'a [(String, String)],
    /// What Bitbucket's own network would do.
    pub(crate) network: &'a [String],
    /// The image.
    pub(crate) image: &'a str,
}

impl PipeLine<'_> {
    /// The line, for a shell: values are pasted into double-quoted words, and only quotes are escaped.
    pub(crate) fn text(&self) -> String {
        let (clone_dir, ssh_dir) = (self.clone_dir.display(), self.ssh_dir.display());
        let mut words = vec![
            "docker run --rm".to_owned(),
            format!("--volume={clone_dir}:{BUILD}{}", self.mount),
            format!("--volume={ssh_dir}:/opt/atlassian/pipelines/agent/ssh:ro"),
            format!("--volume={}:/usr/local/bin/docker:ro", program("docker")),
            format!("--workdir={}", self.workdir),
            "--label=org.bitbucket.pipelines.system=true".to_owned(),
        ];
        words.extend(self.environment.iter().map(|name| format!("--env={name}=\"${name}\"")));
        words.push("--env=DOCKER_HOST=tcp://host.docker.internal:2375".to_owned());
        words
            .extend(self.variables.iter().map(|(name, value)| format!("-e {name}=\"{}\"", value.replace('"', "\\\""))));
        words.extend(self.network.iter().cloned());
        words.push(self.image.to_owned());
        words.join(" ")
    }
}
