//! The client's version in the metadata of a call (docs/protocol.md, "Client version").

use semver::Version;
use tonic::metadata::MetadataMap;

use crate::refusal::Refusal;

/// The value of `version`. More than one value counts as none (docs/protocol.md, "Client version").
pub(crate) fn from_metadata(metadata: &MetadataMap) -> Option<String> {
    let mut values = metadata.get_all("version").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().unwrap_or_default().to_owned()),
        _ => None,
    }
}

/// Accepts a missing version; refuses an invalid one, and one below the minimum.
pub(crate) fn check(version: Option<&str>, smallest: &str) -> Result<(), Refusal> {
    let Some(version) = version else {
        return Ok(());
    };
    // Messages name the minimum without its pre-release suffix.
    let plain = smallest.split('-').next().unwrap_or(smallest);
    match (Version::parse(version), Version::parse(smallest)) {
        (Ok(version), Ok(smallest)) if version >= smallest => Ok(()),
        _ => {
            Err(Refusal::access_denied(format!("client version is unsupported, minimum supported version is {plain}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_is_accepted_and_an_invalid_one_is_not() {
        assert!(check(None, "17.0.0-aa").is_ok());
        assert!(check(Some("17.0.0"), "17.0.0-aa").is_ok());
        assert!(check(Some("18.2.0"), "17.0.0-aa").is_ok());
        assert!(check(Some("16.5.1"), "17.0.0-aa").is_err());
        assert!(check(Some("teleport-pipe"), "17.0.0-aa").is_err());
    }
}
