//! What the store says of its images to the pod protocol's messages.

use crate::image::{Image, ImageStore, Pruned, Readiness, Warmed};
use crate::model::finding::{Finding, Severity};
use crate::proto::pod as wire;

pub fn image(image: &Image, images: &ImageStore) -> wire::StoredImage {
    wire::StoredImage {
        id: image.id.clone(),
        tags: image.tags.clone(),
        digests: image.digests.clone(),
        size: image.size,
        code_size: images.code_size(image),
        pinned: image.pinned,
    }
}

pub fn pruned(pruned: Pruned) -> wire::StoredImage {
    wire::StoredImage { id: pruned.id, tags: pruned.tags, ..Default::default() }
}

pub fn warmed(warmed: &Warmed, of: usize) -> wire::CompileResponse {
    use wire::compile_response::Outcome;
    let (outcome, code_size, error) = match &warmed.outcome {
        Ok((size, Readiness::Made)) => (Outcome::Made, *size, String::new()),
        Ok((size, Readiness::Kept)) => (Outcome::Kept, *size, String::new()),
        Err(error) => (Outcome::Failed, 0, error.clone()),
    };
    wire::CompileResponse {
        path: warmed.path.clone(),
        digest: warmed.digest.clone(),
        code_size,
        outcome: outcome.into(),
        error,
        of: u32::try_from(of).unwrap_or(u32::MAX),
    }
}

pub fn finding(finding: Finding) -> wire::Finding {
    use wire::finding::Severity as Wire;
    let severity = match finding.severity {
        Severity::Fine => Wire::Fine,
        Severity::Warning => Wire::Warning,
        Severity::Error => Wire::Error,
    };
    let Finding { subject, what, mend, .. } = finding;
    wire::Finding { severity: severity.into(), subject, what, mend }
}
