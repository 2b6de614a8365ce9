//! `configure`: a tbot.yaml from flags.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::cli::ConfigureFlags;
use crate::environment::Environment;
use crate::error::Failure;
use crate::host::HostError;
use crate::log;

/// Prints the file, or writes it where there is none yet.
pub(crate) fn run(flags: &ConfigureFlags, env: &Environment) -> Result<(), Failure> {
    let yaml = flags.yaml(env)?;
    let Some(path) = &flags.output else {
        return Ok(log::out(&yaml).map_err(HostError::because("stdout"))?);
    };
    // The join token in it may be a secret.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(file.and_then(|mut file| file.write_all(yaml.as_bytes())).map_err(HostError::because("the file of --output"))?)
}
