//! The environment as a value. It is read once in `main` and passed on from there.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// Environment variables. Values are trimmed. An empty one counts as unset, because pipes get optional
/// variables as empty strings (docs/protocol.md, "Pipe variables").
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, Zeroizing<String>>);

impl Environment {
    /// The environment of this process, without variables that are not UTF-8. None of ours may be.
    pub(crate) fn from_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Returns `None` if the variable is unset or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The values of a list: `A,B` in one variable, or `X_COUNT`, `X_0`, `X_1` …, which is how pipes
    /// get a YAML list (docs/protocol.md, "Pipe variables"). Empty values are left out.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        match self.get(name) {
            Some(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
            None => self.items(name),
        }
    }

    /// Like [`list`](Self::list), but one variable is one item, whatever commas it has.
    pub(crate) fn items(&self, name: &str) -> Vec<&str> {
        if let Some(text) = self.get(name) {
            return vec![text];
        }
        let count = self.get(&format!("{name}_COUNT")).and_then(|count| count.parse::<u16>().ok());
        (0..count.unwrap_or(0)).filter_map(|n| self.get(&format!("{name}_{n}"))).collect()
    }

    /// With this value instead of the variable's own, which may be a list.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut this = self.clone();
        this.0.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
        this
    }

    /// Only the variables whose names are like this.
    pub(crate) fn only(&self, is_kept: impl Fn(&str) -> bool) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| is_kept(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// The names of all variables, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect())
    }
}

/// Shows names only, because values may be secret.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset_and_values_are_trimmed() {
        let env = Environment::from_iter([("A", "  "), ("B", " x\n")]);
        assert_eq!((env.get("A"), env.get("B"), env.get("C")), (None, Some("x"), None));
    }

    #[test]
    fn debug_shows_no_values() {
        assert!(!format!("{:?}", Environment::from_iter([("TOKEN", "s3cret")])).contains("s3cret"));
    }
}
