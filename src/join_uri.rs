//! Join URIs, which newer clusters print for a bot: `tbot+proxy+<method>://<token>[:<parameter>]@<host:port>`
//! (docs/protocol.md, "Join URI").

use crate::address::HostPort;
use crate::invalid::Invalid;
use crate::join::kind::{self, Kind};
use crate::values::{JoinToken, join_token};

/// What a join URI says.
#[derive(Debug)]
pub(crate) struct JoinUri {
    pub(crate) addr: HostPort,
    pub(crate) method: Kind,
    pub(crate) token: JoinToken,
    /// What it means depends on the method.
    pub(crate) parameter: Option<String>,
}

impl JoinUri {
    /// Reads a join URI. It is never shown, because it may hold a secret.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        Self::read(text).map_err(Invalid::hidden)
    }

    fn read(text: &str) -> Result<Self, Invalid> {
        const FORM: &str = "Write tbot+proxy+<method>://<token>@example.teleport.sh:443, as the cluster prints it.";
        let wrong = |reason: &str| Invalid::new(reason, FORM);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("is not a join URI"))?;
        let scheme = scheme.to_ascii_lowercase();
        let mut parts = scheme.splitn(3, '+');
        let (Some("tbot"), Some(service), Some(method)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("is not a join URI"));
        };
        match service {
            "proxy" => {}
            "auth" => return Err(wrong("names the Auth Service, which is reached through the proxy")),
            _ => return Err(wrong("names neither the proxy nor the Auth Service")),
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, addr) = authority.rsplit_once('@').ok_or_else(|| wrong("names no join token"))?;
        let (token, parameter) = user.split_once(':').map_or((user, None), |(token, rest)| (token, Some(rest)));
        let decoded =
            |text: &str| percent_decoded(text).ok_or_else(|| wrong("has a `%` that is not followed by a byte"));
        Ok(Self {
            addr: addr.parse()?,
            method: kind::by_uri_name(method)?,
            token: join_token(&decoded(token)?)?,
            parameter: parameter.map(decoded).transpose()?,
        })
    }
}

/// The text with `%2B` and its like as the bytes that they stand for (RFC 3986, section 2.1).
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = rest.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))?;
        let hex = std::str::from_utf8(hex).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, &'static str, Option<String>), String> {
        let uri = JoinUri::parse(text).map_err(|invalid| invalid.to_string())?;
        let JoinToken::Name(token) = &uri.token else { panic!("{uri:?}") };
        Ok((format!("{}@{}", token.reveal(), uri.addr), uri.method.name(), uri.parameter))
    }

    #[test]
    fn parts() {
        assert_eq!(
            read("tbot+proxy+kubernetes://example-bot@example.teleport.sh:443"),
            Ok(("example-bot@example.teleport.sh:443".to_owned(), "kubernetes", None))
        );
        let (name, method, parameter) = read("TBOT+Proxy+Terraform-Cloud://a%2Fb:t%31@p.example:3080/x?y#z").unwrap();
        assert_eq!(
            (name.as_str(), method, parameter.as_deref()),
            ("a/b@p.example:3080", "terraform_cloud", Some("t1"))
        );
        assert_eq!(read("tbot+proxy+azuredevops://a@p.example").unwrap().1, "azure_devops");
    }

    #[test]
    fn what_is_not_one() {
        for text in [
            "",
            "example.teleport.sh:443",
            "https://example.teleport.sh",
            "tbot+proxy://a@b",
            "tbot+auth+token://a@b:3025",
            "tbot+relay+token://a@b",
            "tbot+proxy+kubernetes://example.teleport.sh:443",
            "tbot+proxy+kubernetes://@example.teleport.sh:443",
            "tbot+proxy+kubernetes://a%zz@example.teleport.sh:443",
            "tbot+proxy+kubernetes://a%2@example.teleport.sh:443",
            "tbot+proxy+kubernetes://a%+1@example.teleport.sh:443",
            "tbot+proxy+iam://a@example.teleport.sh:443",
            "tbot+proxy+kubernetes://a@:443",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let text = "tbot+proxy+token://s3cretS3cret@example.teleport.sh:0";
        let error = crate::error::render(&JoinUri::parse(text).unwrap_err().named("--join-uri", text));
        assert!(!error.contains("s3cret"), "{error}");
    }
}
