use super::*;

fn told(files: &config::Tls) -> String {
    Tls::load(files).unwrap_err().to_string()
}

#[test]
fn without_files_the_public_cas_are_believed_and_nothing_is_shown() {
    let tls = Tls::load(&config::Tls::default()).unwrap();
    assert!(!tls.0.client_auth_cert_resolver.has_certs());
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_key_and_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let files = config::Tls {
        ca: Some(path.clone()),
        ..config::Tls::default()
    };
    let shown = path.display();
    assert_eq!(
        told(&files),
        format!(
            "store.tls.ca: {shown} cannot be read (No such file or directory (os error 2)); name \
             a PEM file that this user may read"
        )
    );
    std::fs::write(&path, "no certificate\n").unwrap();
    assert_eq!(
        told(&files),
        format!(
            "store.tls.ca: {shown} holds no certificate; a PEM file has it between lines of BEGIN \
             and END"
        )
    );
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, broken).unwrap();
    let expected = format!("store.tls.ca: what {shown} holds cannot be used: ");
    assert!(told(&files).starts_with(&expected), "{}", told(&files));
}

#[test]
fn a_refusal_says_whose_certificate_why_and_what_to_do() {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(None, &provider).unwrap();
    let name = ServerName::try_from("db.example").unwrap();
    let told = |fault| {
        let error = rustls::Error::InvalidCertificate(fault);
        verifier.told(&name, error).to_string()
    };
    assert_eq!(
        told(CertificateError::UnknownIssuer),
        "other error: the certificate of db.example is refused: it is signed by none of the CAs \
         that are believed, those that Mozilla lists; put the CA that signed it into the file of \
         store.tls.ca"
    );
    assert!(told(CertificateError::Expired).contains("renew it on the server"));
    let other = rustls::Error::DecryptError;
    assert_eq!(verifier.told(&name, other.clone()), other);
}

#[test]
fn remedies_are_for_failures_of_tls_alone() {
    assert_eq!(remedy("connection refused"), None);
    let alert = remedy("received fatal alert: CertificateRequired").unwrap();
    assert!(alert.contains("store.tls.cert"), "{alert}");
}
