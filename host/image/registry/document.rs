//! What a registry answers for a tag: a manifest or an index of manifests. Decides which of the
//! two it is, and refuses what could be read as both (CVE-2021-41190). Pure.

use oci_spec::image::ImageIndex;
use serde::Deserialize;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Everything that we read, in the order of our liking.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Checked against its digest.
#[derive(Debug)]
pub struct Document {
    pub bytes: Vec<u8>,
    /// "sha256:...".
    pub digest: String,
    pub form: Form,
}

#[derive(Debug)]
pub enum Form {
    Manifest,
    Index(Box<ImageIndex>),
}

/// As much of either as tells them apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

fn is_known(kind: &str) -> bool {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].contains(&kind)
}

impl Document {
    /// `kind` is the answer's Content-Type. The error is a clause about the manifest.
    pub fn read(bytes: Vec<u8>, digest: String, kind: Option<&str>) -> Result<Self, String> {
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
        let head: Head = serde_json::from_slice(&bytes).map_err(|error| {
            format!("is not one: {error} (content type {:.80})", kind.unwrap_or("none"))
        })?;
        if head.schema_version == Some(1) {
            return Err("is of docker's old schema 1, which is not read any more".to_owned());
        }
        let told = kind.filter(|kind| is_known(kind));
        if let (Some(told), Some(own)) = (told, head.media_type.as_deref())
            && told != own
        {
            return Err(format!("says that it is {own:.80}, and the registry that it is {told}"));
        }
        let has = (head.manifests.is_some(), head.layers.is_some() || head.config.is_some());
        let is_index = match (has, head.media_type.as_deref().or(told)) {
            ((true, true), _) => {
                return Err("could be read as a manifest and as an index".to_owned());
            }
            (_, Some(OCI_INDEX | DOCKER_INDEX)) => true,
            (_, Some(OCI_MANIFEST | DOCKER_MANIFEST)) => false,
            (_, Some(other)) => return Err(format!("is of the unknown type {other:.80}")),
            ((manifests, _), None) => manifests,
        };
        let form = if is_index {
            let index = serde_json::from_slice(&bytes);
            Form::Index(index.map(Box::new).map_err(|error| format!("is no valid index: {error}"))?)
        } else {
            Form::Manifest
        };
        Ok(Self { bytes, digest, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Option<&str>) -> Result<Form, String> {
        Document::read(text.as_bytes().to_vec(), String::new(), kind).map(|found| found.form)
    }

    #[test]
    fn a_document_says_what_it_is() {
        let index = r#"{"schemaVersion": 2, "manifests": []}"#;
        assert!(matches!(read(index, None), Ok(Form::Index(_))));
        assert!(matches!(read(index, Some(OCI_INDEX)), Ok(Form::Index(_))));
        let manifest = r#"{"schemaVersion": 2, "layers": [], "config": {}}"#;
        assert!(matches!(read(manifest, Some("text/plain")), Ok(Form::Manifest)));
        let told = format!("{DOCKER_MANIFEST}; charset=utf-8");
        assert!(matches!(read(manifest, Some(&told)), Ok(Form::Manifest)));
    }

    #[test]
    fn what_could_be_two_things_is_refused() {
        for (text, kind, part) in [
            (r#"{"manifests": [], "layers": []}"#, None, "as a manifest and as an index"),
            (
                r#"{"mediaType": "application/vnd.oci.image.index.v1+json"}"#,
                Some(OCI_MANIFEST),
                "the registry that it is",
            ),
            (r#"{"schemaVersion": 1}"#, None, "schema 1"),
            ("<html>", Some("text/html"), "text/html"),
            (r#"{"mediaType": "x/y"}"#, None, "unknown type x/y"),
            (r#"{"manifests": [{}]}"#, None, "no valid index"),
        ] {
            let fault = read(text, kind).unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
