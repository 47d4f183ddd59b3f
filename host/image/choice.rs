//! Chooses among the images of an index: wasi/wasm before anything else, else the image whose
//! entrypoint is a wasm file, else one of data alone, else a sentence about what is there. Knows nothing of where
//! manifests come from.

use oci_spec::image::Descriptor;

use crate::error::Error;
use crate::image::plan::Plan;

/// Images of one index that are looked at.
pub const MAX_MANIFESTS: usize = 256;

pub fn is_index(entry: &Descriptor) -> bool {
    let media = entry.media_type().as_ref();
    media.contains("image.index") || media.contains("manifest.list")
}

/// How much an index's entry promises, lower is better; `None` for what is no image.
pub fn rank(entry: &Descriptor) -> Option<u8> {
    let Some(platform) = entry.platform() else { return Some(1) };
    let (os, arch) = (platform.os().to_string(), platform.architecture().to_string());
    // What buildx attaches to say how an image was made.
    if os == "unknown" {
        return None;
    }
    Some(if os.starts_with("wasi") || arch.starts_with("wasm") { 0 } else { 2 })
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Run,
    /// To be mounted: it names nothing that starts. Of an index only where nothing can be run.
    Data,
}

/// Images that were looked at and are none of ours.
#[derive(Default)]
pub struct Passed {
    faults: Vec<Error>,
    unfit: Vec<String>,
}

impl Passed {
    /// The plan and what it is for; of one that is for nothing it is noted why.
    pub fn look(&mut self, plan: Result<Plan, Error>) -> Option<(Plan, Use)> {
        match plan {
            Ok(plan) => match plan.entry() {
                Ok(Some(_)) => return Some((plan, Use::Run)),
                Ok(None) => return Some((plan, Use::Data)),
                Err(why) => self.unfit.push(why),
            },
            Err(fault) => self.faults.push(fault),
        }
        None
    }

    /// Why nothing was chosen.
    pub fn refusal(mut self) -> Error {
        // An index may name images that are left out, of platforms that it does not serve.
        if self.unfit.is_empty() {
            let none = || Error::Invalid("it holds no image".to_owned());
            return self.faults.into_iter().next().unwrap_or_else(none);
        }
        self.unfit.dedup();
        let (shown, more) =
            (self.unfit.iter().take(3).cloned().collect::<Vec<_>>(), self.unfit.len());
        let more = if more > 3 { format!(", and {} more", more - 3) } else { String::new() };
        Error::Invalid(format!("it holds {}{more}", shown.join(", ")))
    }
}
