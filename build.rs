//! Compiles proto/, lists its methods, and nothing else. protox reads the files, so no protoc is needed.

use std::path::PathBuf;

use tonic_prost_build::{Config, configure};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let cri = protox::compile(["runtime/v1/api.proto"], ["proto"])?;
    std::fs::write(out.join("cri.binpb"), prost_bytes(&cri))?;
    let mut methods = methods(&cri);
    configure().compile_fds(cri)?;

    let own = protox::compile(["shim/v1/shim.proto", "pod/v1/pod.proto"], ["proto"])?;
    std::fs::write(out.join("own.binpb"), prost_bytes(&own))?;
    methods.push_str(&self::methods(&own));
    std::fs::write(out.join("methods.rs"), format!("&[{methods}]"))?;
    let mut config = Config::new();
    config.bytes(["."]);
    configure().compile_fds_with_config(own, config)?;
    Ok(())
}

/// As Rust, ("package.Service", "Method") of each.
fn methods(set: &prost_types::FileDescriptorSet) -> String {
    let mut list = String::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                list.push_str(&format!("(\"{package}.{service}\", \"{}\"),", method.name()));
            }
        }
    }
    list
}

fn prost_bytes(set: &prost_types::FileDescriptorSet) -> Vec<u8> {
    prost::Message::encode_to_vec(set)
}
