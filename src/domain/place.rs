//! Where an account sends: to PortOne, or to a stand-in on this machine.

use std::net::IpAddr;

/// Whether charges that go to this base URL reach real cards. What stands on loopback is a sandbox; everything else is taken
/// for live, a test channel at PortOne too, because nothing in a URL tells its channels apart.
pub fn is_live(base_url: &str) -> bool {
    !host(base_url).is_some_and(is_loopback)
}

/// The host of an HTTP URL, an IPv6 address without its brackets. `None`: there is none, or a user name hides it.
pub fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    Some(match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    })
}

/// Whether a host is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_sandbox() {
        for sandbox in
            ["http://127.0.0.1:8765", "http://127.0.0.1", "http://[::1]:80/x", "http://localhost/", "https://localhost:1"]
        {
            assert!(!is_live(sandbox), "{sandbox}");
        }
        let live = [
            "https://api.iamport.kr",
            "https://api.iamport.kr:443/",
            "http://127.0.0.1.example.com",
            "https://127.0.0.1@api.iamport.kr",
            "https://api.iamport.kr\\@127.0.0.1",
            "https://10.0.0.1",
            "ftp://127.0.0.1",
            "",
        ];
        for live in live {
            assert!(is_live(live), "{live}");
        }
    }
}
