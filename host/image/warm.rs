//! Machine code for people: how much of it there is, and making all of an image's at once.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::image::code::Readiness;
use crate::image::import::about;
use crate::image::{Code, Image, ImageProgram, ImageStore};

/// One program and what became of its machine code.
#[derive(Clone, Debug)]
pub struct Warmed {
    /// In the image's root; of several the first.
    pub path: String,
    pub digest: String,
    /// Bytes of machine code, and whether they were there before.
    pub outcome: std::result::Result<(u64, Readiness), String>,
}

impl ImageStore {
    /// Makes machine code of every program of an image, checking what is there. `each` is told of
    /// every program as it is done, and of how many there are; the answer is theirs in the order
    /// in which they were done.
    pub async fn warm(
        &self,
        reference: &str,
        mut each: impl FnMut(&Warmed, usize) + Send,
    ) -> Result<Vec<Warmed>> {
        let image = self.need(reference)?;
        // What is made meanwhile must not be taken for nobody's.
        let _busy = self.busy();
        let mut programs: BTreeMap<&str, &ImageProgram> = BTreeMap::new();
        for program in &image.programs {
            programs.entry(&program.digest).or_insert(program);
        }
        let of = programs.len();
        let mut work = JoinSet::new();
        for program in programs.into_values() {
            let (codes, program) = (self.shared.codes.clone(), program.clone());
            work.spawn(async move {
                let made = codes.verify(&program.digest, &program.file).await;
                (program, made)
            });
        }
        let mut done = Vec::new();
        while let Some(ended) = work.join_next().await {
            let (program, made): (ImageProgram, Result<(Code, Readiness)>) =
                ended.map_err(|error| Error::Internal(format!("compiling: {error}")))?;
            let outcome = made
                .map(|(code, readiness)| (self.shared.codes.size(&code.module), readiness))
                .map_err(|error| about(error, &program.file, &program.path).to_string());
            let warmed = Warmed { path: program.path, digest: program.digest, outcome };
            each(&warmed, of);
            done.push(warmed);
        }
        Ok(done)
    }

    /// Bytes of machine code of an image's programs; what images share counts for each.
    pub fn code_size(&self, image: &Image) -> u64 {
        self.shared.code_size(image)
    }
}
