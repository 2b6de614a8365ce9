//! What tbot's command line has and this program does not. A person who replaces tbot by this program reads what to write
//! instead, and not only that a word is unknown (docs/protocol.md, "Command line").

use crate::error::{Advice, Exit, Explain};

/// Words of tbot's command line, why this program does not have them, and what to do instead.
#[derive(Debug)]
pub(crate) struct Entry {
    words: &'static [&'static str],
    cause: &'static str,
    remedy: &'static str,
}

/// A command line that cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{flag} is a flag of `start`")]
    OfStart { flag: &'static str },
    #[error("`{what}` of tbot is not supported")]
    Word { what: String, entry: &'static Entry },
    /// What the parser of the command line says, for a program that reads JSON.
    #[error("{0}")]
    Usage(String),
    #[error("there is nothing to do: no command is given, and no variable of the pipe is set")]
    Nothing,
}

impl Explain for Error {
    fn advice(&self) -> Advice {
        const UNSUPPORTED: &str = "something-of-tbots-is-not-supported";
        let new = |anchor, remedy| Advice::new(Exit::BadInput, anchor, remedy);
        match self {
            Self::OfStart { .. } => {
                new(WRONG, "Run `teleport-pipe start -c tbot.yaml --oneshot`, or leave the flag out.")
                    .cause("Only `start` reads a tbot.yaml.")
            }
            Self::Word { entry, .. } => new(UNSUPPORTED, entry.remedy).cause(entry.cause),
            Self::Usage(_) => new(WRONG, "Compare the command line with `teleport-pipe --help`."),
            Self::Nothing => new(
                WRONG,
                "In a step, set PROXY_SERVER and TOKEN under `variables:` of the pipe. In a shell, name a command:\n\
                 teleport-pipe doctor example.teleport.sh:443\n\
                 teleport-pipe join --proxy-server=example.teleport.sh:443 --token=example-bot",
            ),
        }
    }
}

/// The section of docs/troubleshooting.md about what the parser of the command line refuses.
pub(crate) const WRONG: &str = "the-command-line-is-wrong";

const SSH_ONLY: &str = "teleport-pipe writes SSH credentials only (`start identity`).";
const ONE_SHOT: &str = "teleport-pipe joins once and ends. It does not stay in the background.";
const NO_SECRETS: &str =
    "A bot that keeps a key of its own is not supported yet: ID tokens and one-time tokens need none.";
const KEEP: &str = "Keep tbot for this. Both can run in one step, with different destinations.";
const LEAVE_OUT: &str = "Leave it out.";

/// Services of `start`.
const SERVICES: &[Entry] = &[
    Entry {
        words: &[
            "application",
            "app",
            "application-tunnel",
            "app-tunnel",
            "application-proxy",
            "database",
            "db",
            "database-tunnel",
            "db-tunnel",
            "kubernetes",
            "k8s",
            "kubernetes/v2",
            "k8s/v2",
            "workload-identity-x509",
            "workload-identity-jwt",
            "workload-identity-api",
            "workload-identity-aws-roles-anywhere",
            "spiffe-svid",
        ],
        cause: SSH_ONLY,
        remedy: KEEP,
    },
    Entry {
        words: &["ssh-multiplexer"],
        cause: ONE_SHOT,
        remedy: "Use `start identity`: each ssh then opens a connection of its own.",
    },
];

const COMMANDS: &[Entry] = &[
    Entry {
        words: &["migrate"],
        cause: "teleport-pipe reads version v2 of a tbot.yaml only.",
        remedy: "Run `tbot migrate -c tbot.yaml` once, with any tbot since version 14, or write the file anew.",
    },
    Entry {
        words: &["init"],
        cause: "The destination needs no preparation: the run that writes it also creates it, with mode 0700.",
        remedy: "Run `teleport-pipe start identity` as the user who will read the files.",
    },
    Entry { words: &["install"], cause: ONE_SHOT, remedy: "Keep tbot on machines that need credentials all the time." },
    Entry { words: &["keypair", "tpm"], cause: NO_SECRETS, remedy: "Leave the command out." },
    Entry {
        words: &["wait"],
        cause: ONE_SHOT,
        remedy: "Leave the command out: when `start identity --oneshot` ends with 0, the files are there.",
    },
    Entry { words: &["db", "proxy", "kube", "spiffe-inspect"], cause: SSH_ONLY, remedy: KEEP },
    Entry {
        words: &["copy-binaries", "ssh-multiplexer-proxy-command"],
        cause: "A run writes the program for the ProxyCommand into the destination, beside ssh_config.",
        remedy: "Use `start identity`, and then `ssh -F ./tbot-user/ssh_config`.",
    },
];

const FLAGS: &[Entry] = &[
    Entry {
        words: &["--ca-pin"],
        cause: "A pin replaces the check of the Auth Service's certificate. teleport-pipe connects to the proxy, whose \
                certificate it always checks with public authorities.",
        remedy: "Leave it out. If the proxy has a certificate of a private authority, name its file in SSL_CERT_FILE.",
    },
    Entry {
        words: &["--insecure"],
        cause: "Certificates are always checked: otherwise any server on the way to the proxy could take the ID token.",
        remedy: "Leave it out. If the proxy has a certificate of a private authority, name its file in SSL_CERT_FILE.",
    },
    Entry {
        words: &["--fips"],
        cause: "The cryptography of teleport-pipe is not validated by FIPS 140.",
        remedy: "Use a build of tbot for FIPS if you have to; otherwise leave it out.",
    },
    Entry {
        words: &["--registration-secret", "--registration-secret-path", "--static-key-path"],
        cause: NO_SECRETS,
        remedy: LEAVE_OUT,
    },
    Entry {
        words: &["--reader-user", "--reader-group"],
        cause: "The files have one reader, their owner. Access control lists are not written.",
        remedy: "Run it as the user who will read the files. As a pipe, set FILE_OWNER.",
    },
    Entry {
        words: &["--allow-reissue"],
        cause: "Certificates cannot be used to request others.",
        remedy: "Leave it out, or keep tbot if another tool needs it.",
    },
    Entry { words: &["--scoped"], cause: "Scoped bots are not supported yet.", remedy: KEEP },
];

/// What of this command line only tbot has. Returns `None` if the mistake is another one.
pub(crate) fn unsupported(args: &[String]) -> Option<Error> {
    let mut flag = None;
    let mut words = Vec::new();
    for arg in args.iter().skip(1).take_while(|arg| *arg != "--") {
        match name_of_flag(arg) {
            Some(name) => flag = flag.or_else(|| find(FLAGS, name).map(|entry| (name.to_owned(), entry))),
            None => words.push(arg.as_str()),
        }
    }
    let word = match words.as_slice() {
        ["start", service, ..] => find(SERVICES, service).map(|entry| (format!("start {service}"), entry)),
        [command, ..] => find(COMMANDS, command).map(|entry| ((*command).to_owned(), entry)),
        [] => None,
    };
    word.or(flag).map(|(what, entry)| Error::Word { what, entry })
}

/// The name of a flag, if the argument is one.
fn name_of_flag(arg: &str) -> Option<&str> {
    arg.starts_with('-').then(|| arg.split_once('=').map_or(arg, |(name, _)| name))
}

fn find(entries: &'static [Entry], word: &str) -> Option<&'static Entry> {
    entries.iter().find(|entry| entry.words.contains(&word))
}

#[cfg(test)]
impl Error {
    /// An error for each entry.
    pub(crate) fn samples() -> Vec<(String, Self)> {
        let words = [("start ", SERVICES), ("", COMMANDS), ("", FLAGS)];
        let entries = words.into_iter().flat_map(|(before, entries)| entries.iter().map(move |entry| (before, entry)));
        entries
            .map(|(before, entry)| {
                let what = format!("{before}{}", entry.words[0]);
                (what.clone(), Self::Word { what, entry })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> Option<String> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        unsupported(&args).map(|error| error.to_string())
    }

    #[test]
    fn words_of_tbot_are_named() {
        for (line, what) in [
            ("tbot start database --service=x", "`start database` of tbot"),
            ("tbot start kubernetes/v2", "`start kubernetes/v2` of tbot"),
            ("tbot db connect", "`db` of tbot"),
            ("tbot install systemd --write", "`install` of tbot"),
            ("tbot keypair create", "`keypair` of tbot"),
            ("tbot start identity --oneshot --ca-pin=sha256:aa", "`--ca-pin` of tbot"),
        ] {
            assert_eq!(message(line), Some(format!("{what} is not supported")), "{line}");
        }
    }

    #[test]
    fn other_mistakes_are_not_tbots() {
        for line in
            ["tbot jion", "tbot start identity --oneshoot", "tbot doctor -- --ca-pin", "tbot start identity wait", ""]
        {
            assert_eq!(message(line), None, "{line}");
        }
    }
}
