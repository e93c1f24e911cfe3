//! What a replica may reach, as the firewall in the middle and the interfaces on both sides of it are told.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::wanted::Outbound;

/// The interface that leads out of the network in the middle.
pub(super) const UPLINK: &str = "uplink";
/// Where replicas ask for names; led to the machine's resolver in the middle.
pub(super) const RESOLVER: &str = "198.19.255.253";
/// Addresses between the network in the middle and pasta. This and all others are from the range for benchmarks of
/// networks (RFC 2544), which no network uses.
pub(super) const PASTA: &str = "198.19.255.1";
pub(super) const MIDDLE: &str = "198.19.255.2";
/// The address of the network in the middle as replicas see it.
pub(super) const GATEWAY: &str = "198.19.254.1";

/// Connections that one replica may have at the same time, through what all share.
const CONNECTIONS: u32 = 1024;

/// What no app reaches unless it is told by name that it may: this network, private networks, the link with the
/// addresses of clouds' metadata, and what is for no single host.
const PRIVATE: [&str; 10] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// One or more addresses, perhaps at one port: `203.0.113.7`, `203.0.113.0/24`, `203.0.113.7:5432`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    address: Ipv4Addr,
    prefix: u8,
    port: Option<u16>,
}

/// What is no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be an IPv4 address or network, perhaps with a port, like `203.0.113.7:5432` or `203.0.113.0/24`"
)]
pub struct WrongDestination;

impl FromStr for Destination {
    type Err = WrongDestination;

    fn from_str(text: &str) -> Result<Self, WrongDestination> {
        let (network, port) = match text.split_once(':') {
            Some((network, port)) => {
                (network, Some(number::<u16>(port).filter(|&port| port > 0).ok_or(WrongDestination)?))
            }
            None => (text, None),
        };
        let (address, prefix) = match network.split_once('/') {
            Some((address, prefix)) => {
                let prefix = number::<u8>(prefix).filter(|&prefix| prefix <= 32);
                (address, prefix.ok_or(WrongDestination)?)
            }
            None => (network, 32),
        };
        let address: Ipv4Addr = address.parse().map_err(|_| WrongDestination)?;
        // `203.0.113.7/24` means either of two things.
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        if address.to_bits() & host_bits != 0 {
            return Err(WrongDestination);
        }
        Ok(Self { address, prefix, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.prefix < 32 {
            write!(f, "/{}", self.prefix)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Destination {
    /// One address, at one port.
    pub(crate) fn at(address: Ipv4Addr, port: u16) -> Self {
        Self { address, prefix: 32, port: Some(port) }
    }

    /// As a condition of the firewall.
    fn condition(&self) -> String {
        let network = format!("ip daddr {}/{}", self.address, self.prefix);
        match self.port {
            Some(port) => format!("{network} meta l4proto {{ tcp, udp }} th dport {port}"),
            None => network,
        }
    }
}

/// Digits only: what a number's own parser takes besides is no way to write one here.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Where one replica is plugged into the network in the middle.
pub(super) struct Port {
    /// The interface, in the middle. Inside the replica's network it is `eth0`.
    pub(super) interface: String,
    address: Ipv4Addr,
}

impl Port {
    pub(super) fn new(slot: u16) -> Self {
        let [high, low] = slot.to_be_bytes();
        Self { interface: format!("app{slot}"), address: Ipv4Addr::new(198, 18, high, low) }
    }

    /// For `ip -batch` in the middle; `{pid}` stands for a process inside.
    pub(super) fn outside(&self) -> String {
        let Self { interface, address } = self;
        format!(
            "link add {interface} type veth peer name eth0 netns {{pid}}\n\
             addr add {GATEWAY}/32 dev {interface}\nlink set {interface} up\nroute add {address}/32 dev {interface}\n"
        )
    }

    /// For `ip -batch` in the replica's network.
    pub(super) fn inside(&self) -> String {
        let address = self.address;
        format!(
            "link set lo up\naddr add {address}/32 dev eth0\nlink set eth0 up\nroute add {GATEWAY}/32 dev eth0\n\
             route add default via {GATEWAY} dev eth0\n"
        )
    }
}

/// What is around the network in the middle.
pub(super) struct Surroundings<'a> {
    /// The machine's addresses.
    pub(super) own: Vec<Ipv4Addr>,
    /// What apps may reach although it is private.
    pub(super) allowed: &'a [Destination],
    /// The machine's resolver.
    pub(super) resolver: Option<Ipv4Addr>,
}

/// For `nft`: the whole firewall in the middle, made if it is not there, with the rules for this replica.
pub(super) fn firewall(port: &Port, outbound: &Outbound, around: &Surroundings<'_>) -> String {
    let Port { interface, address } = port;
    let Surroundings { own, allowed, resolver } = around;
    let mut text = format!(
        "add table inet marmot
add chain inet marmot input {{ type filter hook input priority 0 ; policy drop ; }}
add chain inet marmot forward {{ type filter hook forward priority 0 ; policy drop ; }}
add chain inet marmot nat {{ type nat hook postrouting priority 100 ; }}
add chain inet marmot names {{ type nat hook prerouting priority -100 ; }}
add set inet marmot replicas {{ type ifname . ipv4_addr ; }}
add map inet marmot policies {{ type ifname : verdict ; }}
flush chain inet marmot forward
flush chain inet marmot nat
flush chain inet marmot names
add rule inet marmot forward ct state established,related accept
add rule inet marmot forward oifname != \"{UPLINK}\" drop
add rule inet marmot forward iifname . ip saddr != @replicas drop
add rule inet marmot forward ct status dnat accept
add rule inet marmot forward iifname vmap @policies
add rule inet marmot nat oifname \"{UPLINK}\" masquerade
add chain inet marmot refuse
add chain inet marmot {interface}
flush chain inet marmot {interface}
flush chain inet marmot refuse
add rule inet marmot refuse meta l4proto tcp reject with tcp reset
add rule inet marmot refuse reject with icmpx type admin-prohibited
add element inet marmot replicas {{ \"{interface}\" . {address} }}
add element inet marmot policies {{ \"{interface}\" : jump {interface} }}
"
    );
    if let Some(resolver) = resolver {
        let asks = format!("ip daddr {RESOLVER} meta l4proto {{ tcp, udp }} th dport 53");
        let _ = writeln!(text, "add rule inet marmot names {asks} dnat ip to {resolver}");
    }
    let mut rule = |what: &str| {
        let _ = writeln!(text, "add rule inet marmot {interface} {what}");
    };
    rule(&format!("ct state new ct count over {CONNECTIONS} goto refuse"));
    let mut blocked: Vec<String> = PRIVATE.iter().map(|&network| network.to_owned()).collect();
    blocked
        .extend(own.iter().filter(|address| !address.is_loopback()).map(|address| format!("{address}/32")));
    let private = format!("ip daddr {{ {} }} goto refuse", blocked.join(", "));
    match outbound {
        Outbound::None => {}
        Outbound::Internet => {
            allowed.iter().for_each(|allowed| rule(&format!("{} accept", allowed.condition())));
            rule(&private);
            rule("meta nfproto ipv4 accept");
        }
        Outbound::Only(destinations) => {
            // What is private takes two to allow: the launcher asks for it, the operator lets it.
            for destination in destinations {
                for allowed in *allowed {
                    rule(&format!("{} {} accept", destination.condition(), allowed.condition()));
                }
            }
            rule(&private);
            destinations.iter().for_each(|asked| rule(&format!("{} accept", asked.condition())));
        }
    }
    rule("goto refuse");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(outbound: &Outbound, allowed: &[&str]) -> Vec<String> {
        let allowed: Vec<Destination> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        let own = vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(130, 60, 1, 2)];
        let around = Surroundings { own, allowed: &allowed, resolver: None };
        let text = firewall(&Port::new(258), outbound, &around);
        let own = text.lines().filter_map(|line| line.strip_prefix("add rule inet marmot app258 "));
        own.skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn destinations_read_back_as_they_were_written() {
        for text in ["203.0.113.7", "203.0.113.7:5432", "203.0.113.0/24", "10.0.0.0/8:443", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        let wrong =
            ["", "example.org", "203.0.113.7/24", "1.2.3.4/33", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:+1"];
        for text in wrong.into_iter().chain(["1.2.3.4/", "::1", "1.2.3.4 accept", "1.2.3.4/8/8", "1.2.3.4:"])
        {
            assert_eq!(text.parse::<Destination>(), Err(WrongDestination), "{text}");
        }
    }

    #[test]
    fn private_networks_and_the_machine_come_before_the_internet_and_after_what_the_operator_allows() {
        let [allowed, private, rest, end] = &rules(&Outbound::Internet, &["10.1.2.3:5432"])[..] else {
            panic!()
        };
        assert_eq!(allowed, "ip daddr 10.1.2.3/32 meta l4proto { tcp, udp } th dport 5432 accept");
        for network in ["10.0.0.0/8", "169.254.0.0/16", "130.60.1.2/32"] {
            assert!(private.contains(network) && private.ends_with("goto refuse"), "{private}");
        }
        assert_eq!((rest.as_str(), end.as_str()), ("meta nfproto ipv4 accept", "goto refuse"));
    }

    #[test]
    fn a_list_alone_allows_nothing_private() {
        let only = |text: &str| Outbound::Only(vec![text.parse().unwrap()]);
        let alone = rules(&only("10.1.0.0/16"), &[]);
        assert!(alone[0].contains("10.0.0.0/8") && alone[0].ends_with("goto refuse"), "{alone:#?}");
        let both = rules(&only("10.1.0.0/16"), &["10.0.0.0/8"]);
        assert_eq!(both[0], "ip daddr 10.1.0.0/16 ip daddr 10.0.0.0/8 accept");
        assert_eq!(rules(&Outbound::None, &["10.0.0.0/8"]), ["goto refuse"]);
    }
}
