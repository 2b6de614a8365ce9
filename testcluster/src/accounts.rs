//! The accounts that can log in on this machine: the current user and, if Debian's `libnss-wrapper` is installed,
//! `user`, an account that exists only for sshd.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The login that examples use.
const EXAMPLE: &str = "user";

/// What the cluster needs to know about the accounts of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    me: String,
    uid: String,
    gid: String,
    passwd: String,
    wrapper: Option<PathBuf>,
}

impl Accounts {
    pub(crate) fn detect() -> Self {
        let id = |flag: &str| -> Option<String> {
            let output = Command::new("id").arg(flag).output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Self {
            me: id("-un").unwrap_or_else(|| "root".into()),
            uid: id("-u").unwrap_or_else(|| "0".into()),
            gid: id("-g").unwrap_or_else(|| "0".into()),
            passwd: std::fs::read_to_string("/etc/passwd").unwrap_or_default(),
            wrapper: find_wrapper(),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == "0"
    }

    /// `user` if sshd can find it, else the current user.
    pub(crate) fn usable_login(&self) -> String {
        if self.wrapper.is_some() && !self.exists(EXAMPLE) { EXAMPLE.into() } else { self.me.clone() }
    }

    /// The logins of the cluster's role: `user`, the current user, and `root`.
    pub(crate) fn logins(&self) -> Vec<String> {
        let mut logins = vec![EXAMPLE.to_owned(), self.me.clone()];
        if self.me != "root" {
            logins.push("root".into());
        }
        logins
    }

    /// The environment in which sshd finds `user`: the current user under another name.
    pub(crate) fn environment(&self, directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
        let Some(wrapper) = self.wrapper.as_ref().filter(|_| !self.exists(EXAMPLE)) else {
            return Ok(Vec::new());
        };
        let home = directory.display();
        let (uid, gid) = (&self.uid, &self.gid);
        let passwd = format!("{}{EXAMPLE}:x:{uid}:{gid}::{home}:/bin/sh\n", self.passwd);
        std::fs::write(directory.join("passwd"), passwd)?;
        std::fs::copy("/etc/group", directory.join("group"))?;
        Ok(vec![
            ("LD_PRELOAD".into(), wrapper.clone()),
            ("NSS_WRAPPER_PASSWD".into(), directory.join("passwd")),
            ("NSS_WRAPPER_GROUP".into(), directory.join("group")),
        ])
    }

    fn exists(&self, login: &str) -> bool {
        self.passwd.lines().any(|line| line.split(':').next() == Some(login))
    }
}

/// The library is in a directory that is named after the architecture.
fn find_wrapper() -> Option<PathBuf> {
    let architectures = std::fs::read_dir("/usr/lib").ok()?;
    architectures.flatten().map(|entry| entry.path().join("libnss_wrapper.so")).find(|path| path.exists())
}
