//! Holds the shim's protocol against the list of its newest version, tests/shim_fields.txt: a
//! daemon meets shims of other builds, which understand it by that version's number alone.

use prost::Message;
use wasmpod::proto::shim as wire;
use wasmpod::proto::{OWN_DESCRIPTOR, SHIM_PROTOCOLS};

use crate::support::descriptor::list;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim_fields.txt");

const WHAT_TO_DO: &str = "shim.proto is not what its version was when tests/shim_fields.txt was \
    written, so daemons and shims of the two builds would misunderstand each other: put the next \
    number first in proto::SHIM_PROTOCOLS and keep the one before, serve both, and write the list \
    anew (cargo test --test all -- --ignored write_the_shims_list)";

fn now() -> String {
    format!("version {}\n{}", SHIM_PROTOCOLS[0], list(OWN_DESCRIPTOR, "wasmpod.shim.v1"))
}

fn version(list: &str) -> &str {
    list.lines().next().unwrap_or_default()
}

#[test]
fn the_shims_protocol_changes_with_its_version_alone() {
    let (now, kept) = (now(), std::fs::read_to_string(LIST).unwrap());
    for (number, (now, kept)) in now.lines().zip(kept.lines()).enumerate() {
        assert_eq!(now, kept, "line {} of tests/shim_fields.txt: {WHAT_TO_DO}", number + 1);
    }
    assert_eq!(now.lines().count(), kept.lines().count(), "one list goes on: {WHAT_TO_DO}");
}

/// Remakes the list for a new version.
#[test]
#[ignore = "run by hand when the protocol has a new version"]
fn write_the_shims_list() {
    let (now, kept) = (now(), std::fs::read_to_string(LIST).unwrap_or_default());
    assert!(now == kept || version(&now) != version(&kept), "{WHAT_TO_DO}");
    std::fs::write(LIST, now).unwrap();
}

/// A shim of the next build, that still speaks this version, may say more.
#[test]
fn fields_of_a_later_build_are_passed_over() {
    #[derive(Clone, PartialEq, Message)]
    struct LaterHello {
        #[prost(uint32, tag = "1")]
        version: u32,
        #[prost(string, tag = "5")]
        engine: String,
        #[prost(string, repeated, tag = "77")]
        later: Vec<String>,
    }
    let later = LaterHello { version: 1, engine: "e".into(), later: vec!["x".into(), "y".into()] };
    let hello = wire::HelloResponse::decode(later.encode_to_vec().as_slice()).unwrap();
    assert_eq!((hello.version, hello.engine.as_str()), (1, "e"));
}
