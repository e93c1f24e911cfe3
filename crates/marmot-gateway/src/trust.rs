//! Whose word counts on where a request comes from: proxies before the gateway, and how many connections one client has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{self, HeaderMap};

use crate::config::Scheme;
use crate::headers::{X_FORWARDED_FOR, X_FORWARDED_PROTO};

/// A set of addresses, as networks: `10.0.0.0/8, 192.0.2.7, fd00::/8`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<(IpAddr, u8)>);

/// The text is no list of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("networks are addresses with the length of their prefix, like `10.0.0.0/8, 192.0.2.7`")]
pub struct InvalidNetworks;

impl FromStr for Networks {
    type Err = InvalidNetworks;

    fn from_str(text: &str) -> Result<Self, InvalidNetworks> {
        let network = |text: &str| {
            let (address, length) = match text.split_once('/') {
                Some((address, length)) => (address, Some(length.parse().ok()?)),
                None => (text, None),
            };
            let address: IpAddr = address.trim().parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = length.unwrap_or(most);
            (length <= most).then_some((address, length))
        };
        let networks = text.split(',').map(|part| network(part.trim()).ok_or(InvalidNetworks));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl Networks {
    /// Whether this address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(network, length)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let apart = network.to_bits() ^ address.to_bits();
                apart.leading_zeros() >= u32::from(*length)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let apart = network.to_bits() ^ address.to_bits();
                apart.leading_zeros() >= u32::from(*length)
            }
            _ => false,
        })
    }
}

/// Where a request comes from: `peer`, unless that is a trusted proxy, which is believed. The way is followed back from
/// there as long as trusted proxies tell it; what others wrote is theirs to invent.
pub(crate) fn origin(
    trusted: &Networks,
    peer: SocketAddr,
    scheme: Scheme,
    headers: &HeaderMap,
) -> (SocketAddr, Scheme) {
    if trusted.0.is_empty() || !trusted.contains(peer.ip()) {
        return (peer, scheme);
    }
    let mut client = peer;
    for address in hops(headers).into_iter().rev() {
        let Some(address) = address else { break };
        client = SocketAddr::new(address, 0);
        if !trusted.contains(address) {
            break;
        }
    }
    let proto = headers.get_all(X_FORWARDED_PROTO).iter().next_back().and_then(|value| value.to_str().ok());
    let scheme = match proto.and_then(|proto| proto.rsplit(',').next()).map(str::trim) {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => scheme,
    };
    (client, scheme)
}

/// The addresses that a request is said to have come by, the last proxy's word last. `None`: no address.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lists = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    if headers.contains_key(X_FORWARDED_FOR) {
        return lists(X_FORWARDED_FOR).flat_map(|list| list.split(',')).map(address).collect();
    }
    let element = |element: &str| {
        let named = element.split(';').filter_map(|pair| pair.split_once('='));
        let mut given = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        given.next().and_then(|(_, value)| address(value.trim().trim_matches('"')))
    };
    lists(header::FORWARDED).flat_map(|list| list.split(',')).map(element).collect()
}

/// An address, that may have a port: `192.0.2.7`, `192.0.2.7:80`, `::1`, `[::1]`, `[::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    text.parse::<IpAddr>()
        .ok()
        .or_else(bracketed)
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

/// Who is one client: an address, and of IPv6 a network of 64 bits, which is what one is given.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// How many connections there are from each client.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Crowd {
    /// Counts a connection; `None`: its client has `most` already.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr, most: usize) -> Option<Member> {
        let client = client_of(client);
        let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = crowd.entry(client).or_default();
        if *connections >= most {
            return None;
        }
        *connections += 1;
        Some(Member { crowd: Arc::clone(self), client })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut crowd = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = crowd.get_mut(&self.client) {
            *connections -= 1;
            if *connections == 0 {
                crowd.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn told(fields: &[(&'static str, &'static str)]) -> (String, &'static str) {
        let trusted = "10.0.0.0/8, fd00::/8".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let (client, scheme) = origin(&trusted, "10.0.0.1:5".parse().unwrap(), Scheme::Http, &headers);
        (client.ip().to_string(), scheme.as_str())
    }

    #[test]
    fn networks_hold_what_they_say() {
        let networks: Networks = "10.0.0.0/8, 192.0.2.7,fd00::/8".parse().unwrap();
        for inside in ["10.255.0.1", "192.0.2.7", "fdff::1", "::ffff:10.0.0.1"] {
            assert!(networks.contains(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.0", "192.0.2.8", "fe00::1", "::1"] {
            assert!(!networks.contains(ip(outside)), "{outside}");
        }
        assert!("0.0.0.0/0".parse::<Networks>().unwrap().contains(ip("203.0.113.9")));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "a", "10.0.0.0/", "::/129", "10.0.0.0/8,,::1"] {
            assert!(wrong.parse::<Networks>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_what_it_was_told_by_others_is_not() {
        assert_eq!(told(&[]), ("10.0.0.1".into(), "http"));
        let forged = ("x-forwarded-for", "1.1.1.1, 203.0.113.9");
        assert_eq!(told(&[forged]), ("203.0.113.9".into(), "http"));
        assert_eq!(told(&[forged, ("x-forwarded-for", "10.9.9.9")]), ("203.0.113.9".into(), "http"));
        assert_eq!(told(&[("x-forwarded-for", "203.0.113.9, nonsense")]).0, "10.0.0.1");
        assert_eq!(
            told(&[("x-forwarded-for", "203.0.113.9:443"), ("x-forwarded-proto", "https")]).1,
            "https"
        );
        assert_eq!(
            told(&[("forwarded", "for=1.1.1.1, For=\"[2001:db8::1]:80\";proto=http")]).0,
            "2001:db8::1"
        );
        // Somebody else's word is nobody's.
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
        let peer = "203.0.113.9:5".parse().unwrap();
        let trusted: Networks = "10.0.0.0/8".parse().unwrap();
        assert_eq!(origin(&trusted, peer, Scheme::Http, &headers), (peer, Scheme::Http));
    }

    #[test]
    fn one_client_has_so_many_connections_and_no_more() {
        let crowd = Arc::new(Crowd::default());
        let first = crowd.enter(ip("2001:db8::1"), 2).unwrap();
        let _second = crowd.enter(ip("2001:db8::2"), 2).unwrap();
        assert!(crowd.enter(ip("2001:db8::3"), 2).is_none());
        assert!(crowd.enter(ip("2001:db8:0:1::3"), 2).is_some());
        drop(first);
        assert!(crowd.enter(ip("2001:db8::3"), 2).is_some());
        assert_eq!(crowd.0.lock().unwrap().len(), 1, "who left is forgotten");
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[ -~]{0,80}", networks in ".{0,40}") {
            let mut headers = HeaderMap::new();
            headers.insert(X_FORWARDED_FOR, HeaderValue::try_from(value.clone()).unwrap());
            let trusted: Networks = networks.parse().unwrap_or_else(|_| "0.0.0.0/0".parse().unwrap());
            origin(&trusted, "10.0.0.1:5".parse().unwrap(), Scheme::Http, &headers);
            headers.remove(X_FORWARDED_FOR);
            headers.insert(header::FORWARDED, HeaderValue::try_from(value).unwrap());
            origin(&trusted, "10.0.0.1:5".parse().unwrap(), Scheme::Http, &headers);
        }
    }
}
