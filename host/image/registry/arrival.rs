//! How far an image on its way into the store or to a registry is, for people who wait.

/// One moment of a pull or a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    pub stage: Stage,
    /// In the image's order; empty until the manifest is known.
    pub layers: Vec<LayerArrival>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Asking which image the name means.
    #[default]
    Resolving,
    Downloading,
    Uploading,
    Unpacking {
        layer: usize,
        of: usize,
    },
    Compiling {
        done: usize,
        of: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerArrival {
    pub digest: String,
    /// Bytes.
    pub size: u64,
    pub done: u64,
}
