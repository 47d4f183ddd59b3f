//! Holds the project's CRI descriptor against the published one, as tests/cri_fields.txt lists
//! it: every service, method, message, enum, field number, type and label.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support::descriptor::list;

const PACKAGE: &str = "runtime.v1";

#[test]
fn the_projects_cri_is_wire_identical_to_the_published_one() {
    let ours = list(wasmpod::proto::CRI_DESCRIPTOR, PACKAGE);
    let published = include_str!("cri_fields.txt");
    for (number, (ours, published)) in ours.lines().zip(published.lines()).enumerate() {
        assert_eq!(ours, published, "line {} of tests/cri_fields.txt", number + 1);
    }
    assert_eq!(ours.lines().count(), published.lines().count(), "one list goes on");
}

/// Remakes the list from a published descriptor set that CRI_DESCRIPTOR names.
#[test]
#[ignore = "run by hand when CRI's version changes"]
fn write_the_list() {
    let path = std::env::var("CRI_DESCRIPTOR").expect("CRI_DESCRIPTOR names a descriptor set");
    let text = list(&std::fs::read(path).unwrap(), PACKAGE);
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cri_fields.txt");
    std::fs::write(target, text).unwrap();
}
