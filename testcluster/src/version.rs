//! Clients say their version in the metadata, or nothing (teleport-join.md 1.4).

use semver::Version;
use tonic::metadata::MetadataMap;

use crate::refusal::Refusal;

/// The metadata `version`; more than one value is as good as none (teleport-join.md 3.1).
pub(crate) fn from_metadata(metadata: &MetadataMap) -> Option<String> {
    let mut values = metadata.get_all("version").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.to_str().unwrap_or_default().to_owned()),
        _ => None,
    }
}

/// None is accepted; one that is not a version, or older than the smallest supported one, is not.
pub(crate) fn check(version: Option<&str>, smallest: &str) -> Result<(), Refusal> {
    let Some(version) = version else {
        return Ok(());
    };
    // Texts name the smallest version without its pre-release suffix.
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
    fn absent_is_accepted_and_nonsense_is_not() {
        assert!(check(None, "17.0.0-aa").is_ok());
        assert!(check(Some("17.0.0"), "17.0.0-aa").is_ok());
        assert!(check(Some("18.2.0"), "17.0.0-aa").is_ok());
        assert!(check(Some("16.5.1"), "17.0.0-aa").is_err());
        assert!(check(Some("teleport-pipe"), "17.0.0-aa").is_err());
    }
}
