//! The `docker run` line that Bitbucket makes of a `pipe:` item (docs/protocol.md, "How a pipe runs"). `emulator.rs`
//! runs that of an emulator.

use std::path::Path;

use crate::docker::program;

/// The clone directory at Bitbucket, outside of containers and in them.
pub(crate) const BUILD: &str = "/opt/atlassian/pipelines/agent/build";

/// The parts of the line.
#[derive(Debug)]
pub(crate) struct PipeLine<'a> {
    /// The clone directory on this machine. At Bitbucket it is [`BUILD`] outside of the containers, too.
    pub(crate) clone_dir: &'a Path,
    /// Its mount option: `:ro` or none.
    pub(crate) mount: &'a str,
    /// The directory of the step's SSH key.
    pub(crate) ssh_dir: &'a Path,
    /// The working directory of the step's script.
    pub(crate) workdir: &'a str,
    /// The names of the step's variables. The shell has their values.
    pub(crate) environment: Vec<&'a str>,
    /// The item's `variables`.
    pub(crate) variables: &'a [(String, String)],
    /// Options for the network that Bitbucket provides otherwise.
    pub(crate) network: &'a [String],
    pub(crate) image: &'a str,
}

impl PipeLine<'_> {
    /// The line for a shell. Values are in double quotes, and only quotes are escaped, as Bitbucket does it.
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
