//! Whether an image's registry has the signatures that this node's policy asks for, as cosign
//! writes them with a key. Until version 2: at the tag `sha256-<hex>.sig` of the image's repository
//! lies a manifest whose layers are small payloads that name the signed digest, each with its
//! signature in an annotation. From version 3: `bundle`. Knows nothing of how registries are spoken
//! to.
//!
//! Verified by ring, which TLS brings anyway, and spki, which reads public keys. The sigstore
//! crate would bring a registry client, X.509 and Rekor for a comparison of one hash.

mod bundle;
mod keys;
mod policy;

use std::path::PathBuf;

use base64::Engine;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::image::blobs::{Blob, digest_of};
use crate::image::folders::bare;
use crate::image::name::Name;
use crate::image::plan;
use crate::image::registry::Session;

use keys::Key;
use policy::{Policy, Verdict};

/// The annotation with the signature of a layer, in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const KIND: &str = "cosign container image signature";
/// Signatures of one image that are looked at.
const MAX_SIGNATURES: usize = 64;
/// Bytes of one payload.
const MAX_PAYLOAD: u64 = 64 << 10;

/// What was found of one kind of signatures: none, a good one, or why none counts.
type Found = Option<std::result::Result<(), String>>;

/// Where an image's repository is read from.
#[async_trait::async_trait]
pub trait Repository: Send + Sync {
    /// A manifest by tag or digest; `None` when there is none.
    async fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>>;
    /// The index of what refers to a manifest, by its digest; `None` when nothing does.
    async fn referrers(&self, digest: &str) -> Result<Option<Vec<u8>>>;
    /// A small blob, checked against its digest.
    async fn blob(&self, blob: &Blob) -> Result<Vec<u8>>;
}

#[async_trait::async_trait]
impl Repository for Session {
    async fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>> {
        match self.document(reference).await {
            Ok(document) => Ok(Some(document.bytes)),
            Err(Error::NotInRegistry { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn referrers(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        match self.referring(digest).await {
            Ok(document) => Ok(Some(document.bytes)),
            // A registry that does not list them keeps them under a tag, if it says so or not.
            Err(_) => self.manifest(&format!("sha256-{}", bare(digest))).await,
        }
    }

    async fn blob(&self, blob: &Blob) -> Result<Vec<u8>> {
        self.small(blob).await
    }
}

/// What this node asks of images; read anew for each, so that a change counts at once.
#[derive(Clone, Debug)]
pub struct Signatures {
    policy: Option<PathBuf>,
}

impl Signatures {
    /// Without a policy file every image is taken.
    pub fn new(policy: Option<PathBuf>) -> Self {
        Self { policy }
    }

    /// Succeeds when the policy lets the image `digest` in under `name`. A policy or a key that
    /// cannot be read lets nothing in. [`Error::Unsigned`] carries the kubelet's word.
    pub async fn verify(
        &self,
        name: &Name,
        digest: &str,
        repository: &dyn Repository,
    ) -> Result<()> {
        let Some(path) = &self.policy else { return Ok(()) };
        let refuse = |why: String| Error::Unsigned(format!("image {name}: {why}"));
        let policy = Policy::read(path).map_err(|why| refuse(why.to_string()))?;
        let rule = match policy.verdict(&name.repository) {
            Verdict::Accept => return Ok(()),
            Verdict::Refuse => {
                return Err(refuse(format!("the policy {} refuses it", path.display())));
            }
            Verdict::Signed(rule) => rule,
        };
        let keys = rule.keys(path).map_err(|why| refuse(why.to_string()))?;
        let tag = format!("sha256-{}.sig", bare(digest));
        let at_tag = match repository.manifest(&tag).await? {
            Some(manifest) => Some(signed(&manifest, digest, (&keys, repository)).await?),
            None => None,
        };
        if at_tag == Some(Ok(())) {
            return Ok(());
        }
        let whys = match (at_tag, bundle::signed(digest, (&keys, repository)).await?) {
            (_, Some(Ok(()))) | (Some(Ok(())), _) => return Ok(()),
            (None, None) => {
                return Err(refuse(format!(
                    "{digest} is not signed: there is no {tag}, and no bundle refers to it"
                )));
            }
            (Some(Err(why)), None) | (None, Some(Err(why))) => why,
            (Some(Err(why)), Some(Err(other))) => format!("{why}, {other}"),
        };
        Err(refuse(format!("{digest} has no signature by a key of the policy: {whys}")))
    }
}

/// The inner error says why no signature counts.
async fn signed(
    manifest: &[u8],
    digest: &str,
    (keys, repository): (&[Key], &dyn Repository),
) -> Result<std::result::Result<(), String>> {
    let manifest = match plan::parse_manifest(manifest) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut why = "its signature manifest holds none".to_owned();
    for layer in manifest.layers().iter().take(MAX_SIGNATURES) {
        let annotation = layer.annotations().as_ref().and_then(|all| all.get(SIGNATURE));
        let (PAYLOAD, Some(signature)) = (layer.media_type().as_ref(), annotation) else {
            continue;
        };
        let blob = match plan::blob(layer) {
            Ok(blob) if blob.size <= MAX_PAYLOAD => blob,
            _ => {
                why = "a payload is too large".to_owned();
                continue;
            }
        };
        let Ok(signature) = base64::engine::general_purpose::STANDARD.decode(signature) else {
            why = "a signature is not base64".to_owned();
            continue;
        };
        let payload = repository.blob(&blob).await?;
        if digest_of(&payload) != blob.digest {
            why = format!("payload {} is damaged", blob.digest);
            continue;
        }
        // What no key has signed is not even read.
        if !keys.iter().any(|key| key.has_signed(&payload, &signature)) {
            why = "those that are there are by others".to_owned();
            continue;
        }
        match named(&payload) {
            Ok(named) if named == digest => return Ok(Ok(())),
            Ok(named) => why = format!("a good signature is for {named}"),
            Err(fault) => why = fault,
        }
    }
    Ok(Err(why))
}

/// "Simple signing", as containers/image describes it.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The digest that a payload is about.
fn named(payload: &[u8]) -> std::result::Result<String, String> {
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| format!("a signed payload is not of its kind: {error}"))?;
    if payload.critical.kind != KIND {
        return Err(format!("a good signature is a {:?}, no {KIND}", payload.critical.kind));
    }
    Ok(payload.critical.image.digest)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use std::collections::HashMap;

    pub struct Signer {
        pair: EcdsaKeyPair,
    }

    impl Signer {
        pub fn new() -> Self {
            let (kind, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
            let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
            Self { pair: EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap() }
        }

        /// As cosign writes cosign.pub.
        pub fn pem(&self) -> String {
            let head = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
            let mut der = hex::decode(head).unwrap();
            der.extend(self.pair.public_key().as_ref());
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            let (first, rest) = text.split_at(64);
            format!("-----BEGIN PUBLIC KEY-----\n{first}\n{rest}\n-----END PUBLIC KEY-----\n")
        }

        pub fn sign(&self, payload: &[u8]) -> String {
            let signature = self.pair.sign(&SystemRandom::new(), payload).unwrap();
            base64::engine::general_purpose::STANDARD.encode(signature)
        }
    }

    #[derive(Default)]
    pub struct Shelf {
        pub tags: HashMap<String, Vec<u8>>,
        pub blobs: HashMap<String, Vec<u8>>,
        pub referrers: Option<Vec<u8>>,
    }

    #[async_trait::async_trait]
    impl Repository for Shelf {
        async fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>> {
            Ok(self.tags.get(reference).cloned())
        }

        async fn referrers(&self, _: &str) -> Result<Option<Vec<u8>>> {
            Ok(self.referrers.clone())
        }

        async fn blob(&self, blob: &Blob) -> Result<Vec<u8>> {
            Ok(self.blobs.get(&blob.digest).cloned().unwrap())
        }
    }

    fn payload(kind: &str, digest: &str) -> Vec<u8> {
        serde_json::json!({
            "critical": {
                "identity": { "docker-reference": "" },
                "image": { "docker-manifest-digest": digest },
                "type": kind,
            },
            "optional": null,
        })
        .to_string()
        .into_bytes()
    }

    /// A registry with one signature of `digest`.
    fn shelf(digest: &str, payload: &[u8], signature: &str) -> Shelf {
        let mut shelf = Shelf::default();
        let own = digest_of(payload);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(b"{}"), "size": 2,
            },
            "layers": [{
                "mediaType": PAYLOAD, "digest": own, "size": payload.len(),
                "annotations": { SIGNATURE: signature },
            }],
        });
        let tag = format!("sha256-{}.sig", bare(digest));
        shelf.tags.insert(tag, manifest.to_string().into_bytes());
        shelf.blobs.insert(own, payload.to_vec());
        shelf
    }

    #[tokio::test]
    async fn an_image_comes_in_with_a_signature_by_a_key_of_its_rule_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (Signer::new(), Signer::new());
        std::fs::write(folder.path().join("ours.pub"), ours.pem()).unwrap();
        let policy = folder.path().join("policy.toml");
        let text = "[[rule]]\nimages = [\"reg.example/prod/**\"]\nkeys = [\"ours.pub\"]\n\
                    [[rule]]\nimages = [\"reg.example/bad/*\"]\nverdict = \"refuse\"\n";
        std::fs::write(&policy, text).unwrap();
        let signatures = Signatures::new(Some(policy.clone()));
        let digest = format!("sha256:{}", "a".repeat(64));
        let verify = async |name: &str, shelf: &Shelf| {
            let name = Name::parse(name).unwrap();
            signatures.verify(&name, &digest, shelf).await.map_err(|error| error.to_string())
        };
        let prod = "reg.example/prod/team/app:1";
        let good = payload(KIND, &digest);
        verify(prod, &shelf(&digest, &good, &ours.sign(&good))).await.unwrap();
        verify("reg.example/else/app", &Shelf::default()).await.unwrap();

        let elsewhere = payload(KIND, &format!("sha256:{}", "b".repeat(64)));
        let odd = payload("a poem", &digest);
        let cases = [
            (Shelf::default(), "is not signed"),
            (shelf(&digest, &good, &other.sign(&good)), "by others"),
            (shelf(&digest, &good, &ours.sign(&elsewhere)), "by others"),
            (shelf(&digest, &good, "%%"), "not base64"),
            (
                shelf(&digest, &elsewhere, &ours.sign(&elsewhere)),
                "a good signature is for sha256:bb",
            ),
            (shelf(&digest, &odd, &ours.sign(&odd)), "a poem"),
            (shelf(&digest, b"[]", &ours.sign(b"[]")), "not of its kind"),
        ];
        for (shelf, part) in cases {
            let error = verify(prod, &shelf).await.unwrap_err();
            assert!(error.starts_with("SignatureValidationFailed: image reg.example/prod"));
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
        let error = verify("reg.example/bad/app", &Shelf::default()).await.unwrap_err();
        assert!(error.contains("refuses it"), "{error}");

        // What cannot be read lets nothing in.
        std::fs::write(folder.path().join("ours.pub"), "no key").unwrap();
        let signed = shelf(&digest, &good, &ours.sign(&good));
        assert!(verify(prod, &signed).await.unwrap_err().contains("ours.pub"));
        std::fs::write(&policy, "rules = 1").unwrap();
        assert!(verify(prod, &signed).await.unwrap_err().contains("policy.toml"));
    }
}
