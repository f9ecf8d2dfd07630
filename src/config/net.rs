//! The checks of `[net]`.

use super::{Check, ConfigError, Net, narrow, raw};
use crate::types::{ByteCount, limits};

impl Check<'_> {
    pub(super) fn net(&self, raw: &raw::RawNet) -> Result<Net, ConfigError> {
        let lists = [("net.listen", &raw.listen), ("net.announce", &raw.announce), ("net.bootstrap", &raw.bootstrap)];
        for (key, addresses) in lists {
            if let Some(wrong) = addresses.iter().find(|address| !address.starts_with('/')) {
                return self.wrong(key, format!("{wrong:?} is no multiaddress such as /ip4/127.0.0.1/tcp/4001"));
            }
        }
        if raw.listen.is_empty() || raw.listen.len() > limits::NODE_ADDRESSES_MAX {
            return self.wrong("net.listen", format!("1 to {} addresses are needed", limits::NODE_ADDRESSES_MAX));
        }
        Ok(Net {
            listen: raw.listen.clone(),
            announce: raw.announce.clone(),
            bootstrap: raw.bootstrap.clone(),
            connections_max: narrow(self.within("net.connections_max", raw.connections_max, 8..=65_536)?),
            memory_max: ByteCount::new(self.size("net.memory_max", &raw.memory_max)?),
        })
    }
}
