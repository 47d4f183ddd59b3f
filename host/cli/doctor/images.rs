//! Whether the store holds what it says: blobs, layers, programs, machine code.

use super::super::store::Store;
use super::{Patient, Report};
use crate::model::finding::Finding;
use crate::proto::pod::{self as wire, CheckRequest};

pub async fn check(patient: &Patient) -> Vec<Report> {
    let (images, code) = match &patient.store {
        Ok(Store::Daemon(client)) => match client.imports().check(CheckRequest {}).await {
            Ok(found) => {
                let found = found.into_inner();
                let plain = |all: Vec<wire::Finding>| all.into_iter().map(Finding::from).collect();
                (plain(found.images), plain(found.code))
            }
            Err(status) => (vec![failed(status.message())], Vec::new()),
        },
        Ok(Store::Own(store)) => match store.check().await {
            Ok(found) => (found.images, found.code),
            Err(error) => (vec![failed(&error.to_string())], Vec::new()),
        },
        // The daemon's check says why.
        Err(_) => return Vec::new(),
    };
    vec![Report { check: "images", findings: images }, Report { check: "code", findings: code }]
}

fn failed(why: &str) -> Finding {
    Finding::error("the store", format!("cannot be checked: {why}"))
}
