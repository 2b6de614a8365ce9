//! Outputs: what each requests of the cluster, and the files that it makes of what is issued.

pub(crate) mod identity;

use std::fmt;
use std::path::Path;

use crate::address::{ClusterName, HostPort};
use crate::clock::Offset;
use crate::credentials::Credentials;
use crate::destination::File;
use crate::error::Failure;
use crate::net::authorities::Authorities;
use crate::net::egress::Egress;

/// An output is a request, as data, and a pure rendering: it sees neither the session nor the network nor the disk.
pub(crate) trait Output: fmt::Debug {
    fn request(&self) -> Request;

    /// Whether the files call this program, which is then written beside them under this name.
    fn program(&self) -> Option<&'static str> {
        None
    }

    /// Whether the files can name this directory, which is absolute.
    fn check_directory(&self, directory: &Path) -> Result<(), Failure>;

    /// The files, in the order in which they are written.
    fn render(&self, issued: &Issued, directory: &Path) -> Result<Vec<File>, Failure>;
}

/// What an output requests of the cluster.
pub(crate) struct Request {
    /// The leaf cluster that the certificates are routed to.
    pub(crate) route: Option<ClusterName>,
    /// Those of the bot's roles that the certificates have; all of them if there are none here.
    pub(crate) roles: Vec<String>,
}

/// What an output gets.
pub(crate) struct Issued {
    pub(crate) credentials: Credentials,
    pub(crate) ssh_proxy: HostPort,
    pub(crate) tls_routing: bool,
    /// Whether ssh needs a connection upgrade.
    pub(crate) upgrade: bool,
    pub(crate) egress: Egress,
    pub(crate) authorities: Authorities,
    pub(crate) clock: Offset,
}
