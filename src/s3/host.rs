//! Host: whether the bucket is in the name of the host or in the path.

use std::net::IpAddr;

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The domain whose names below it are buckets; every other name or address has them in the path.
pub struct Domain(String);

/// The name without the port.
fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Domain {
    /// A domain, in any case.
    pub fn new(domain: &str) -> Self {
        Self(name(domain).to_ascii_lowercase())
    }
    /// The bucket in a host's name.
    fn bucket(&self, host: &str) -> Option<String> {
        let host = name(host).to_ascii_lowercase();
        if host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let bucket = host.strip_suffix(&self.0)?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    }
}

impl S3Host for Domain {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_domain_are_buckets_whatever_the_port() {
        let domain = Domain::new("S3.home.example");
        let bucket = |host: &str| {
            let found = domain.parse_host_header(host).expect("any host is fine");
            found.bucket().map(str::to_owned)
        };
        for host in ["photos.s3.home.example", "photos.s3.home.example:9000", "Photos.S3.Home.Example:9000"] {
            assert_eq!(bucket(host).as_deref(), Some("photos"), "{host}");
        }
        assert_eq!(bucket("a.b.s3.home.example").as_deref(), Some("a.b"));
        let paths = ["s3.home.example", "s3.home.example:9000", "localhost:9000", "localhost", "127.0.0.1:9000"];
        for host in [&paths[..], &["[::1]:9000", "other.example", "xs3.home.example", ".s3.home.example"]].concat() {
            assert_eq!(bucket(host), None, "{host}");
        }
    }
}
