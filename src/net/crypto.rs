//! The cryptography of this program.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// ring, for every TLS connection and every check of a certificate.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
