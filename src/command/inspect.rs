//! `inspect`: what the cluster needs to know of this step.

use std::io::Write as _;

use crate::error::Failure;
use crate::id_token::{self, Detection, bitbucket};
use crate::settings::Inspection;
use crate::surroundings::{Surroundings, Unusable};

/// Prints the token's claims and the rule that admits this step.
///
/// # Errors
/// There is no token, or stdout is closed.
pub fn run(_inspection: &Inspection, surroundings: &Surroundings) -> Result<(), Failure> {
    let token = match bitbucket::detect(&surroundings.env, (surroundings.now)()) {
        Detection::Here(token) => token,
        Detection::Unusable(error) => return Err(error.into()),
        Detection::NotHere => return Err(id_token::Error::NoCi.into()),
    };
    let claims = token.claims();
    let text = format!("{}\n{}", bitbucket::listing(claims), bitbucket::token_spec(claims));
    let printed = std::io::stdout().write_all(text.as_bytes());
    Ok(printed.map_err(Unusable::because("stdout"))?)
}
