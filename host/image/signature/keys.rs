//! Public keys as `cosign generate-key-pair`, openssl and KMSs write them: PEM with a
//! SubjectPublicKeyInfo of ECDSA (P-256, P-384), RSA or Ed25519.

use std::path::Path;

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use spki::der::Decode;
use spki::{Document, ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::error::{Error, Result};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that may sign images.
pub struct Key {
    /// Signers choose the hash for some kinds.
    algorithms: Vec<&'static dyn VerificationAlgorithm>,
    bytes: Vec<u8>,
}

impl Key {
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).map_err(Error::io(format!("reading key {shown}")))?;
        let bad = |why: &str| Error::Invalid(format!("key {shown} {why}"));
        let (_, document) = Document::from_pem(&text)
            .map_err(|error| bad(&format!("is no public key in PEM: {error}")))?;
        let info = SubjectPublicKeyInfoRef::from_der(document.as_bytes())
            .map_err(|error| bad(&format!("is no public key: {error}")))?;
        let curve = info.algorithm.parameters.and_then(|any| any.decode_as().ok());
        let algorithms: Vec<&'static dyn VerificationAlgorithm> = match (info.algorithm.oid, curve)
        {
            (EC, Some(P256)) => vec![&signature::ECDSA_P256_SHA256_ASN1],
            (EC, Some(P384)) => {
                vec![&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1]
            }
            (RSA, _) => vec![
                &signature::RSA_PKCS1_2048_8192_SHA256,
                &signature::RSA_PKCS1_2048_8192_SHA512,
                &signature::RSA_PSS_2048_8192_SHA256,
            ],
            (ED25519, _) => vec![&signature::ED25519],
            _ => {
                return Err(bad("is of a kind that is not known: use ECDSA on P-256 or P-384, \
                                RSA of 2048 bits or more, or Ed25519"));
            }
        };
        let bytes = info
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| bad("is no public key: its bits are no bytes"))?;
        Ok(Self { algorithms, bytes: bytes.to_vec() })
    }

    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.algorithms.iter().any(|algorithm| {
            UnparsedPublicKey::new(*algorithm, &self.bytes).verify(message, signature).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word for each argument.
    fn openssl(folder: &Path, arguments: &str) {
        let output = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    #[test]
    fn signatures_by_every_kind_of_key_count_for_what_they_sign_alone() {
        if std::process::Command::new("openssl").arg("version").output().is_err() {
            eprintln!("SKIPPED: no openssl (scripts/setup.sh)");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("message"), "what is signed").unwrap();
        let sha = |bits: u32| format!("dgst -sha{bits} -sign k.pem -out signature message");
        let pss = "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest \
                   -sign k.pem -out signature message";
        let raw = "pkeyutl -sign -rawin -inkey k.pem -in message -out signature";
        let (p256, p384) =
            ("EC -pkeyopt ec_paramgen_curve:P-256", "EC -pkeyopt ec_paramgen_curve:P-384");
        let rsa = "RSA -pkeyopt rsa_keygen_bits:2048";
        for (kind, sign) in [
            (p256, sha(256).as_str()),
            (p384, &sha(256)),
            (p384, &sha(384)),
            (rsa, &sha(256)),
            (rsa, &sha(512)),
            (rsa, pss),
            ("ED25519", raw),
        ] {
            openssl(folder, &format!("genpkey -algorithm {kind} -out k.pem"));
            openssl(folder, "pkey -in k.pem -pubout -out k.pub");
            openssl(folder, sign);
            let key = Key::read(&folder.join("k.pub")).unwrap();
            let mut signature = std::fs::read(folder.join("signature")).unwrap();
            assert!(key.has_signed(b"what is signed", &signature), "{kind} {sign}");
            assert!(!key.has_signed(b"what is not signed", &signature), "{kind} {sign}");
            *signature.last_mut().unwrap() ^= 1;
            assert!(!key.has_signed(b"what is signed", &signature), "{kind} {sign}");
        }
        // One that no library should trust any more.
        openssl(folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out k.pem");
        openssl(folder, "pkey -in k.pem -pubout -out k.pub");
        openssl(folder, &sha(256));
        let signature = std::fs::read(folder.join("signature")).unwrap();
        let weak = Key::read(&folder.join("k.pub"));
        assert!(weak.is_err() || !weak.unwrap().has_signed(b"what is signed", &signature));
    }

    #[test]
    fn a_file_that_is_no_public_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pub");
        let x25519 = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VuAyEAmIM8vmJkEUKLVYhbNzkxDGMlQD9HqUiHkBuXBEgEiDE=\n\
                      -----END PUBLIC KEY-----\n";
        for (text, part) in [
            ("hello", "no public key in PEM"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
            (x25519, "is of a kind"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Key::read(&path).err().unwrap().to_string();
            assert!(error.contains("k.pub") && error.contains(part), "{error}");
        }
        assert!(Key::read(&folder.path().join("none")).is_err());
    }
}
