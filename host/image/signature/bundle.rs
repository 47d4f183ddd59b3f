//! Signatures as cosign 3 makes them: among the artifacts that refer to an image lies a bundle of
//! sigstore's with a DSSE envelope, in it an in-toto statement that names the image's digest. Who
//! signed it is told by the keys alone: certificates and logs in the bundle are not looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::ImageIndex;
use serde::Deserialize;

use super::keys::Key;
use super::{Found, MAX_SIGNATURES, Repository};
use crate::error::Result;
use crate::image::folders::bare;
use crate::image::plan;

/// How the media type of every version begins.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement says that is a signature. Others tell how an image was made: who signed such a
/// one has not said that the image may run.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// Bytes of one bundle.
const MAX_BUNDLE: u64 = 1 << 20;

/// Looks for a bundle by one of `keys` that is about `digest`.
pub async fn signed(digest: &str, (keys, repository): (&[Key], &dyn Repository)) -> Result<Found> {
    let Some(index) = repository.referrers(digest).await? else { return Ok(None) };
    let Ok(index) = serde_json::from_slice::<ImageIndex>(&index) else {
        return Ok(Some(Err("the list of what refers to it is no index".to_owned())));
    };
    let is_bundle = |kind: &Option<oci_spec::image::MediaType>| {
        kind.as_ref().is_some_and(|kind| kind.as_ref().starts_with(BUNDLE))
    };
    let mut found = None;
    let bundles = index.manifests().iter().filter(|entry| is_bundle(entry.artifact_type()));
    for entry in bundles.take(MAX_SIGNATURES) {
        let why = match read(entry.digest().as_ref(), repository).await? {
            Ok(bundle) => match verify(&bundle, digest, keys) {
                Ok(()) => return Ok(Some(Ok(()))),
                Err(why) => why,
            },
            Err(why) => why,
        };
        found = Some(Err(why));
    }
    Ok(found)
}

/// The bundle that a referring manifest carries; the inner error says why there is none.
async fn read(
    manifest: &str,
    repository: &dyn Repository,
) -> Result<std::result::Result<Vec<u8>, String>> {
    let Some(bytes) = repository.manifest(manifest).await? else {
        return Ok(Err(format!("its bundle {manifest} is not there")));
    };
    let manifest = match plan::parse_manifest(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let layer = manifest.layers().iter().find(|l| l.media_type().as_ref().starts_with(BUNDLE));
    match layer.map(plan::blob) {
        Some(Ok(blob)) if blob.size <= MAX_BUNDLE => repository.blob(&blob).await.map(Ok),
        Some(_) => Ok(Err("a bundle is too large".to_owned())),
        None => Ok(Err("a bundle's manifest holds none".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

fn verify(bundle: &[u8], digest: &str, keys: &[Key]) -> std::result::Result<(), String> {
    let bundle: Bundle = serde_json::from_slice(bundle)
        .map_err(|error| format!("a bundle is not of its kind: {error}"))?;
    let envelope = bundle.dsse_envelope.ok_or("a bundle holds no statement")?;
    if envelope.payload_type != STATEMENT {
        return Err(format!("a bundle holds {:.80?}, no statement", envelope.payload_type));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| "a bundle is not base64")?;
    // DSSE's encoding of what is signed.
    let mut message =
        format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), payload.len()).into_bytes();
    message.extend_from_slice(&payload);
    let ours = envelope.signatures.iter().take(MAX_SIGNATURES).any(|signature| {
        STANDARD
            .decode(&signature.sig)
            .is_ok_and(|signature| keys.iter().any(|key| key.has_signed(&message, &signature)))
    });
    // What no key has signed is not even read.
    if !ours {
        return Err("those that are there are by others".to_owned());
    }
    let statement: Statement = serde_json::from_slice(&payload)
        .map_err(|error| format!("a signed statement is not of its kind: {error}"))?;
    if statement.predicate_type != SIGNED {
        return Err(format!("a good signature is for {:.80?}", statement.predicate_type));
    }
    let is_about =
        |subject: &Subject| subject.digest.get("sha256").is_some_and(|hex| hex == bare(digest));
    if !statement.subject.iter().any(is_about) {
        return Err("a good signature is for another image".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Shelf, Signer};
    use super::*;
    use crate::image::blobs::digest_of;
    use serde_json::json;

    fn statement(kind: &str, digest: &str) -> Vec<u8> {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "digest": { "sha256": bare(digest) }, "annotations": {} }],
            "predicateType": kind,
            "predicate": {},
        })
        .to_string()
        .into_bytes()
    }

    fn bundle(signer: &Signer, statement: &[u8]) -> Vec<u8> {
        let mut message = format!("DSSEv1 28 {STATEMENT} {} ", statement.len()).into_bytes();
        message.extend_from_slice(statement);
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": "x" } },
            "dsseEnvelope": {
                "payload": STANDARD.encode(statement),
                "payloadType": STATEMENT,
                "signatures": [{ "sig": signer.sign(&message) }],
            },
        })
        .to_string()
        .into_bytes()
    }

    /// A registry where these bundles refer to the image.
    fn shelf(bundles: &[Vec<u8>]) -> Shelf {
        let mut shelf = Shelf::default();
        let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let mut manifests = vec![json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
            "digest": digest_of(b"an sbom"), "artifactType": "application/spdx+json",
        })];
        for bundle in bundles {
            let manifest = json!({
                "schemaVersion": 2, "artifactType": kind,
                "config": {
                    "mediaType": "application/vnd.oci.empty.v1+json",
                    "digest": digest_of(b"{}"), "size": 2,
                },
                "layers": [{ "mediaType": kind, "digest": digest_of(bundle), "size": bundle.len() }],
            })
            .to_string();
            let digest = digest_of(manifest.as_bytes());
            manifests.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest, "size": manifest.len(), "artifactType": kind,
            }));
            shelf.tags.insert(digest, manifest.into_bytes());
            shelf.blobs.insert(digest_of(bundle), bundle.clone());
        }
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        shelf.referrers = Some(index.to_string().into_bytes());
        shelf
    }

    #[tokio::test]
    async fn a_bundle_by_a_key_of_the_rule_that_is_about_the_image_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (Signer::new(), Signer::new());
        let file = folder.path().join("ours.pub");
        std::fs::write(&file, ours.pem()).unwrap();
        let keys = [Key::read(&file).unwrap()];
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = bundle(&ours, &statement(SIGNED, &digest));
        let by_other = bundle(&other, &statement(SIGNED, &digest));
        let verdict = async |shelf: Shelf| signed(&digest, (&keys, &shelf)).await.unwrap();
        assert_eq!(verdict(Shelf::default()).await, None);
        assert_eq!(verdict(shelf(&[])).await, None);
        assert_eq!(verdict(shelf(&[by_other.clone(), good])).await, Some(Ok(())));

        let elsewhere = statement(SIGNED, &format!("sha256:{}", "b".repeat(64)));
        let provenance = statement("https://slsa.dev/provenance/v1", &digest);
        for (bundle, part) in [
            (by_other, "by others"),
            (bundle(&ours, &elsewhere), "for another image"),
            (bundle(&ours, &provenance), "slsa.dev/provenance"),
            (bundle(&ours, b"[]"), "not of its kind"),
            (b"{}".to_vec(), "holds no statement"),
            (b"%".to_vec(), "not of its kind"),
            (vec![b' '; (MAX_BUNDLE + 1) as usize], "too large"),
        ] {
            let why = verdict(shelf(&[bundle])).await.unwrap().unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
