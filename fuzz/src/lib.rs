//! What the fuzz targets compare: the code that programs and user space share, over frames in
//! memory, with the model of the tests, which shares nothing with it.

#[path = "../../tests/src/packet/mod.rs"]
pub mod packet;
#[path = "../../tests/src/rng.rs"]
pub mod rng;

/// The parts of the model that know no splits.
#[path = "../../tests/src/model"]
pub mod model {
    pub mod fate;
    pub mod flows;
    pub mod quote;
    pub mod render;
    pub mod sight;
    pub mod tcp;
}

use std::net::{IpAddr, SocketAddr};

use model::flows::Key;
use probe_common::address::{Address, Tuple};

/// A tuple as the model has it.
pub fn key_of<A: Address>(tuple: &Tuple<A>) -> Key {
    let end = |address: A, port: u16| SocketAddr::new(ip_of(address), u16::from_be(port));
    Key {
        protocol: tuple.protocol,
        source: end(tuple.src, tuple.sport),
        destination: end(tuple.dst, tuple.dport),
    }
}

/// An address as the model has it.
pub fn ip_of<A: Address>(address: A) -> IpAddr {
    let bytes = bytemuck::bytes_of(&address);
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).expect("an address of either family").into(),
    }
}
