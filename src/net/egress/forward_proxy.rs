//! The URL of a forward proxy.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use zeroize::Zeroizing;

use crate::address::{HostPort, split_port};
use crate::invalid::{Error, Invalid, expect_plain};

const FORM: &str = "Write it as http://host:port, https://host:port or socks5://host:port; with credentials as \
                    http://user:password@host:port, and in these `%40` for `@`, `%2F` for `/` and `%3A` for `:`.";

#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) scheme: Scheme,
    pub(super) addr: HostPort,
    pub(super) credentials: Option<Credentials>,
    /// The variable or file that the URL is from.
    origin: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    /// SOCKS5. The server resolves names, which other programs call `socks5h`.
    Socks5,
}

/// Without percent-encoding.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: Zeroizing<Vec<u8>>,
    pub(super) password: Zeroizing<Vec<u8>>,
}

impl Proxy {
    /// Parses `[scheme://][user[:password]@]host[:port]`. As in Go, anything after the first slash is ignored.
    pub(super) fn parse(origin: &'static str, text: &str) -> Result<Self, Error> {
        // Any part of the text may be part of a password.
        let invalid = |reason: &str| Invalid::new(reason, FORM).hidden().named(origin, text);
        match expect_plain(text) {
            // The name of a variable is not a secret.
            Err(error) if text.starts_with('$') => return Err(error.named(origin, text)),
            Err(_) => return Err(invalid("has an invisible character in it")),
            Ok(()) if text.starts_with(['"', '\'']) => return Err(invalid("has quotes around it")),
            Ok(()) => {}
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" | "socks5h" => (Scheme::Socks5, 1080),
            other if other.chars().all(|c| c.is_ascii_alphanumeric()) => {
                return Err(invalid(&format!("has the scheme `{other}`, which is not http, https or socks5")));
            }
            _ => return Err(invalid("has no scheme before its `://`")),
        };
        if ["http", "https", "socks5"].iter().any(|scheme| {
            rest.strip_prefix(scheme).is_some_and(|rest| rest.starts_with([':', '/']) && rest.contains('/'))
        }) {
            return Err(invalid("has a scheme that does not end with `://`"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // In `me:8080/secret@proxy` the host would be `me`, which errors would show.
        if path.contains('@') {
            return Err(invalid("has a `/`, `?` or `#` before its `@`"));
        }
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, authority),
        };
        let address = host_port.parse::<HostPort>();
        let mut addr = address.map_err(|_| invalid("does not name a host, or a host and its port"))?;
        if split_port(host_port).is_none_or(|(_, port)| port.is_none()) {
            addr.port = default_port;
        }
        let credentials = userinfo.filter(|text| !text.is_empty()).map(Credentials::decode);
        // The forward proxy can quote them.
        if let (Some(userinfo), Some(Credentials { user, password })) = (userinfo, &credentials) {
            let [user, password] =
                [user, password].map(|part| Zeroizing::new(String::from_utf8_lossy(part).into_owned()));
            let encoded = userinfo.split_once(':').map_or("", |(_, password)| password);
            [&*password, encoded, &*Zeroizing::new(format!("{}:{}", *user, *password))]
                .into_iter()
                .for_each(crate::log::hide);
        }
        let is_short = |part: &[u8]| part.len() < 256;
        let fits = |given: &Credentials| scheme != Scheme::Socks5 || is_short(&given.user) && is_short(&given.password);
        if !credentials.as_ref().is_none_or(fits) {
            return Err(invalid("has a user or a password of more than the 255 bytes that SOCKS5 takes"));
        }
        Ok(Self { scheme, addr, credentials, origin })
    }

    /// The URL with credentials, which [`parse`](Self::parse) reads again.
    pub(super) fn url(&self) -> Zeroizing<String> {
        let encode = |part: &[u8]| percent_encode(part, NON_ALPHANUMERIC).to_string();
        let userinfo = self.credentials.as_ref().map_or_else(Zeroizing::default, |Credentials { user, password }| {
            Zeroizing::new(format!("{}:{}@", encode(user), encode(password)))
        });
        Zeroizing::new(format!("{}://{}{}", self.scheme, *userinfo, self.addr))
    }
}

impl Credentials {
    fn decode(userinfo: &str) -> Self {
        let decode = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        Self { user: decode(user), password: decode(password) }
    }
}

/// The URL without credentials, and its origin.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{} ({})", self.scheme, self.addr, self.origin)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Proxy, String> {
        Proxy::parse("HTTPS_PROXY", text).map_err(|error| error.to_string())
    }

    #[test]
    fn slips_are_named_without_the_value() {
        for (text, reason) in [
            ("\"http://me:s3cret@p:3128\"", "has quotes around it"),
            ("'http://me:s3cret@p:3128'", "has quotes around it"),
            ("http://me:s3cret@p\u{200b}:3128", "has an invisible character in it"),
            ("http//me:s3cret@p:3128", "has a scheme that does not end with `://`"),
            ("https:/me:s3cret@p:3128", "has a scheme that does not end with `://`"),
            ("$HTTPS_PROXY", "is the name of a variable instead of its value"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.ends_with(&format!(", which {reason}")) && !error.contains("s3cret"), "{text}: {error}");
        }
        // Hosts may have these names.
        assert!(parse("http:3128").is_ok() && parse("https.example:3128").is_ok());
    }

    #[test]
    fn urls_are_parsed() {
        for (text, shown) in [
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example", "http://proxy.example:80"),
            ("proxy", "http://proxy:80"),
            ("10.0.0.1:3128", "http://10.0.0.1:3128"),
            ("http://Proxy.example:3128/", "http://proxy.example:3128"),
            ("http://proxy.example/path?and#more", "http://proxy.example:80"),
            ("HTTPS://proxy.example", "https://proxy.example:443"),
            ("https://proxy.example:8443", "https://proxy.example:8443"),
            ("socks5://proxy.example", "socks5://proxy.example:1080"),
            ("socks5h://proxy.example:1081", "socks5://proxy.example:1081"),
            ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
            ("http://[2001:db8::1]", "http://[2001:db8::1]:80"),
            ("me:secret@proxy.example:3128", "http://proxy.example:3128"),
        ] {
            assert_eq!(parse(text).map(|proxy| proxy.to_string()), Ok(format!("{shown} (HTTPS_PROXY)")), "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded() {
        for (text, user, password) in [
            ("http://me:secret@p", &b"me"[..], &b"secret"[..]),
            ("http://me@p", b"me", b""),
            ("http://CORP%5Cme:p%40ss%3Aw%C3%B6rd@p", b"CORP\\me", "p@ss:wörd".as_bytes()),
            ("http://me:p@ss@p", b"me", b"p@ss"),
            ("http://me:a:b@p", b"me", b"a:b"),
            ("http://me:100%@p", b"me", b"100%"),
        ] {
            let credentials = parse(text).unwrap().credentials.unwrap();
            assert_eq!((&**credentials.user, &**credentials.password), (user, password), "{text}");
        }
        assert!(parse("http://@p").unwrap().credentials.is_none());
    }

    #[test]
    fn errors_about_a_url_do_not_show_it() {
        for text in [
            "ftp://me:secret@proxy.example",
            "http://me:secret",
            "me:secret://proxy.example",
            "socks4://me:secret@proxy.example",
            "http://me:secret@",
            "http://me:sec/secret@proxy.example:3128",
            "http://secret:80/secret@proxy.example:3128",
            "http://secret#secret@proxy.example:3128",
            "http://me:secret@proxy.example:port",
            "http://me:secret@proxy.example:0",
            "me:secret@two words",
            "://me:secret@proxy.example",
            "http://",
            "socks5://me:secretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecret\
             secretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecret\
             secretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecretsecret@p",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY is (not shown), which ") && !error.contains("secret"), "{error}");
        }
    }
}
