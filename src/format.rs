//! `FORMAT` (`--format`): how a command prints its result on stdout. The log on stderr is the same in all formats.

use std::str::FromStr;

use crate::choice::choose;
use crate::invalid::Invalid;

/// The format of `join` and `doctor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document (docs/json.md).
    Json,
}

impl FromStr for Format {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        choose(text, &[("text", Self::Text), ("json", Self::Json)])
    }
}

/// The format of the resources that `inspect` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResourceFormat {
    /// YAML for `tctl create`.
    #[default]
    Tctl,
    /// HCL for Teleport's Terraform provider.
    Terraform,
}

impl FromStr for ResourceFormat {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // The default of the other actions, which a step may set for all of them.
        match text.parse() {
            Ok(Format::Text) => Ok(Self::default()),
            _ => choose(text, &[("tctl", Self::Tctl), ("terraform", Self::Terraform)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!("JSON".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("text".parse::<Format>().unwrap(), Format::default());
        assert!("yaml".parse::<Format>().is_err());
    }

    #[test]
    fn formats_of_resources() {
        for (text, format) in
            [("tctl", ResourceFormat::Tctl), ("Terraform", ResourceFormat::Terraform), ("text", ResourceFormat::Tctl)]
        {
            assert_eq!(text.parse::<ResourceFormat>().unwrap(), format, "{text}");
        }
        let error = "teraform".parse::<ResourceFormat>().unwrap_err().named("FORMAT", "teraform");
        assert_eq!(error.to_string(), "FORMAT is `teraform`, which is not tctl or terraform");
        assert!("json".parse::<ResourceFormat>().is_err());
    }
}
