//! The messages of Teleport's gRPC services that teleport-pipe uses, and the code generated from them.
//!
//! The `.proto` files in `proto/` hold only the fields that are read or written here. Each module is one
//! protobuf package; its name is the package's.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated code; the .proto files carry the documentation"
)]

pub mod codec;

pub mod teleport {
    pub mod join {
        /// Joining, by the proxy's join service.
        pub mod v1 {
            tonic::include_proto!("teleport.join.v1");
        }
    }
    pub mod transport {
        /// Connections to nodes, through the proxy.
        pub mod v1 {
            tonic::include_proto!("teleport.transport.v1");
        }
    }
    pub mod trust {
        /// Certificate authorities.
        pub mod v1 {
            tonic::include_proto!("teleport.trust.v1");
        }
    }
}

/// The Auth service.
pub mod proto {
    tonic::include_proto!("proto");
}

/// Teleport's resources.
pub mod types {
    tonic::include_proto!("types");
}
