//! Whom the app trusts.

use std::sync::Arc;

use rumqttc_v5::tokio_rustls::rustls::crypto::ring;
use rumqttc_v5::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc_v5::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc_v5::tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::settings::{SettingsError, Tls};
use super::wire::TlsConfiguration;

/// Reads the certificates once, so that what is wrong with them is said at the start. Blocks: the
/// system's certificates are files.
pub(super) fn configuration(tls: &Tls) -> Result<TlsConfiguration, SettingsError> {
    let wrong = |what: String| SettingsError::Tls(what);
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &tls.ca {
        for certificate in certificates(pem, "tls_ca")? {
            roots
                .add(certificate)
                .map_err(|error| wrong(format!("tls_ca has a certificate that cannot be used: {error}")))?;
        }
    } else {
        // Systems have single certificates that cannot be read; they only vouch for nobody.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let what = "the system trusts nobody: install its certificates (package ca-certificates), or give tls_ca";
            return Err(wrong(what.to_owned()));
        }
    }
    // Said explicitly, as another crate in the program may have brought another provider.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| wrong(format!("tls_key has no private key as PEM: {error}")))?;
            builder
                .with_client_auth_cert(certificates(chain, "tls_cert")?, key)
                .map_err(|error| wrong(format!("tls_cert and tls_key do not go together: {error}")))?
        }
    };
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}

fn certificates(pem: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(SettingsError::Tls(format!(
            "{setting} has no certificate: expected PEM, \"-----BEGIN CERTIFICATE-----\""
        ))),
        Err(error) => Err(SettingsError::Tls(format!("{setting} is no PEM: {error}"))),
    }
}
