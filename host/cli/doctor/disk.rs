//! Whether the root folder's disk can be written to and has room.

use std::path::PathBuf;

use super::super::store::Store;
use super::{Patient, Report};
use crate::model::finding::Finding;
use crate::proto::pod::InfoRequest;

/// Less is an error: machine code of one large program may take as much.
const LEAST: u64 = 256 << 20;
/// Less is a warning.
const LITTLE: u64 = 2 << 30;

pub async fn check(patient: &Patient) -> Vec<Report> {
    let root = root(patient).await;
    let shown = root.display().to_string();
    let finding = match rustix::fs::statvfs(&root) {
        Err(errno) => Finding::error(shown, format!("cannot be looked at: {errno}"))
            .mend("the daemon makes it at its start; look at its log"),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let (mib, inodes) = (free >> 20, found.f_favail);
            let room = format!("{mib} MiB are free");
            let mend = "`wasmpod images prune` removes images that no container uses";
            if found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
                Finding::error(shown, "its file system is read-only").mend("mount it writable")
            } else if free < LEAST {
                Finding::error(shown, format!("only {room}")).mend(mend)
            } else if found.f_files > 0 && inodes < 1000 {
                Finding::error(shown, format!("only {inodes} inodes are free")).mend(mend)
            } else if free < LITTLE {
                Finding::warning(shown, format!("only {room}")).mend(mend)
            } else {
                Finding::fine(shown, room)
            }
        }
    };
    vec![Report { check: "disk", findings: vec![finding] }]
}

async fn root(patient: &Patient) -> PathBuf {
    if let Ok(Store::Daemon(client)) = &patient.store
        && let Ok(info) = client.pods().info(InfoRequest {}).await
    {
        return info.into_inner().root.into();
    }
    patient.config.root.clone()
}
