//! Compiles `proto/` into Rust, in memory: no `protoc`, nothing generated is checked in.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "teleport/join/v1/joinservice.proto",
        "teleport/transport/v1/transport.proto",
        "teleport/trust/v1/trust.proto",
        "teleport/legacy/authservice.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        // The product brings its own connections (TLS with Teleport's ALPN names), never tonic's.
        .build_transport(false)
        .codec_path("crate::codec::BoundedCodec")
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        // Without a copy of what passes to and from ssh.
        .bytes(".teleport.transport.v1.Frame")
        // Replies and requests that hold the ID token, keys or certificates have no derived Debug:
        // a stray `{:?}` must not be able to print them.
        .skip_debug(SECRET)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Messages through which secrets pass, and those that contain them.
const SECRET: [&str; 7] = [
    "teleport.join.v1.OIDCInit",
    "teleport.join.v1.JoinRequest",
    "teleport.join.v1.Certificates",
    "teleport.join.v1.BotResult",
    "teleport.join.v1.Result",
    "teleport.join.v1.JoinResponse",
    "proto.Certs",
];
