//! Where events may go: not to this machine, the operator's network or a cloud's metadata, unless the endpoint says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names, and hands out public addresses only.
///
/// It runs for every new connection, and the connection goes to the very addresses that were checked: a name that
/// changes in between gains nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    pub allow_private: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that is not public; set allow_private if it is meant")]
struct NotPublic;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // one bad address among good ones is a trick, or a mistake
            if !allow_private && !found.iter().all(|address| is_public(address.ip())) {
                return Err(NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The endpoint's URL, if events may go there; the texts do not quote it.
pub(super) fn url(text: &str, allow_private: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "its url is not a URL")?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err("its url has to be https, unless allow_private is set"),
        _ => return Err("its url has to be https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its url may not hold a user name or a password");
    }
    // the URL parser has written every spelling of an address in one way
    let host = url.host_str().ok_or("its url has no host")?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if !allow_private && literal.is_ok_and(|address| !is_public(address)) {
        return Err("its address is not public; set allow_private if it is meant");
    }
    Ok(url)
}

/// Whether an address is out on the internet (IANA's registries of special addresses).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..) // this network, private, loopback
            | (100, 64..=127, _) // carriers
            | (169, 254, _) // link-local: metadata of clouds
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2) // protocol assignments, documentation
            | (192, 88, 99) // 6to4 relays
            | (198, 18..=19, _) // benchmarks
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low), // v4-mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low), // NAT64
        [0x2002, high, low, ..] => embedded(high, low),            // 6to4
        [0x2001, 0..=0x1ff, ..] => false,                          // Teredo, ORCHID, benchmarks
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,    // documentation
        [first, ..] => (0x2000..0x4000).contains(&first),          // all that is routed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_known() {
        for inside in [
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001:db8::1",
            "2001:0:1::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "52.78.100.19", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn an_address_in_any_spelling_is_refused() {
        for bad in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f.0.0.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "http://example.com/",
            "ftp://example.com/",
            "https://user:pass@example.com/",
            "example.com",
        ] {
            assert!(url(bad, false).is_err(), "{bad}");
        }
        assert!(url("https://example.com/hook?key=1", false).is_ok());
        for fine in ["http://127.0.0.1:8080/", "https://[::1]/", "http://billing.internal/hook"] {
            assert!(url(fine, true).is_ok(), "{fine}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_resolved() {
        let resolve = |allow_private| Guard { allow_private }.resolve("localhost".parse().unwrap());
        assert!(resolve(false).await.is_err());
        assert!(resolve(true).await.is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback())));
    }
}
