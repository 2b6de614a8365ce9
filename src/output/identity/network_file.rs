//! `network.json`: the settings of the network that a later `ssh` needs. By then the pipe's variables, and files that only
//! the pipe sees, are gone. It may hold the password of a forward proxy.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Offset;
use crate::net::authorities::Authorities;
use crate::net::egress::Egress;

/// The settings. The environment may have those that are not in the file.
#[derive(Debug, Default)]
pub(crate) struct NetworkFile {
    pub(crate) egress: Option<Egress>,
    pub(crate) authorities: Option<Authorities>,
    pub(crate) clock: Offset,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    no_proxy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// The seconds by which the cluster's clock is ahead; negative if it is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset: Option<i64>,
}

impl NetworkFile {
    /// Returns `None` if there is nothing to keep.
    pub(crate) fn render(&self) -> Option<Zeroizing<Vec<u8>>> {
        let egress = self.egress.as_ref();
        let url = egress.and_then(Egress::url);
        let json = Json {
            // Exceptions are of no use without a proxy.
            no_proxy: egress.filter(|_| url.is_some()).map(|egress| egress.exempt().to_owned()).unwrap_or_default(),
            proxy: url,
            ca: self.authorities.as_ref().and_then(Authorities::pem),
            clock_offset: Some(self.clock.seconds()).filter(|seconds| *seconds != 0),
        };
        if json.proxy.is_none() && json.ca.is_none() && json.clock_offset.is_none() {
            return None;
        }
        let mut text = Zeroizing::new(serde_json::to_vec_pretty(&json).ok()?);
        text.push(b'\n');
        Some(text)
    }

    /// # Errors
    /// What is wrong with the file. Does not quote the file, which may hold a password.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is not valid JSON, or has been edited (line {})", error.line()))?;
        let egress = json.proxy.as_ref().map(|url| Egress::from_file(url, &json.no_proxy));
        let authorities = json.ca.map(|pem| Authorities::from_pem(pem.as_bytes()));
        Ok(Self {
            egress: egress.transpose().map_err(|_| "its `proxy` is not the URL of a forward proxy")?,
            authorities: authorities.map(|some| some.ok_or("its `ca` is not a PEM certificate")).transpose()?,
            clock: Offset::from_seconds(json.clock_offset.unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_parsed_as_it_was_rendered() {
        let egress = Some(Egress::from_file("http://me:s3cret@p.example:3128", "a.example").unwrap());
        let file = NetworkFile { egress, clock: Offset::from_seconds(-420), ..NetworkFile::default() };
        let bytes = file.render().unwrap();
        let expected = "{\n  \"proxy\": \"http://me:s3cret@p.example:3128\",\n  \"no_proxy\": \"a.example\",\n  \
                        \"clock_offset\": -420\n}\n";
        assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), expected);
        let read = NetworkFile::parse(&bytes).unwrap();
        assert_eq!(read.egress.unwrap().url(), file.egress.unwrap().url());
        assert_eq!(read.clock.seconds(), -420);
        assert!(read.authorities.is_none());
    }

    #[test]
    fn without_settings_there_is_no_file() {
        assert!(NetworkFile::default().render().is_none());
        let direct = Egress::from_environment(&[("NO_PROXY", "a")].into_iter().collect()).unwrap();
        assert!(NetworkFile { egress: Some(direct), ..NetworkFile::default() }.render().is_none());
    }

    #[test]
    fn errors_do_not_quote_the_file() {
        for text in [
            "",
            "[1]",
            r#"{"proxy": 1}"#,
            r#"{"proxy": "http://me:s3cret@p", "more": "s3cret"}"#,
            r#"{"proxy": "ftp://me:s3cret@p"}"#,
            r#"{"proxy": "http://me:s3cret@p", "clock_offset": "s3cret"}"#,
            r#"{"ca": "s3cret"}"#,
            r#"{"proxy": "http://me:s3cret@p"} s3cret"#,
        ] {
            let reason = NetworkFile::parse(text.as_bytes()).unwrap_err();
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }
}
