//! The cryptographic provider.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// ring, for every TLS connection and every verification of a certificate.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
