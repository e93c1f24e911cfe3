//! The sockets on which connections arrive: one for each core, so that no core waits for another to accept.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that wait to be accepted. The kernel cuts it to what the system allows.
const BACKLOG: i32 = 4096;

/// Listening sockets that are handed in: one, to be spread over the cores, or several, which are used as they are.
#[derive(Debug)]
pub struct Listeners {
    main: Vec<TcpListener>,
    more: Vec<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Self::from(vec![listener])
    }
}

impl From<Vec<TcpListener>> for Listeners {
    fn from(main: Vec<TcpListener>) -> Self {
        Self { main, more: Vec::new() }
    }
}

impl TryFrom<tokio::net::TcpListener> for Listeners {
    type Error = io::Error;
    fn try_from(listener: tokio::net::TcpListener) -> io::Result<Self> {
        listener.into_std().map(Self::from)
    }
}

impl Listeners {
    /// With a socket of another address, where less is to be done: one core accepts from it.
    #[must_use]
    pub fn and(mut self, listener: TcpListener) -> Self {
        self.more.push(listener);
        self
    }

    /// The sockets of each of `cores`, in order. The kernel spreads connections over sockets of one address evenly
    /// (`SO_REUSEPORT`); where no second socket can be bound, all cores accept from the same one.
    ///
    /// # Errors
    /// When a socket cannot be duplicated: there are no descriptors left.
    pub fn spread(self, cores: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut listeners = self.main;
        let Some(first) = listeners.first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket to listen on"));
        };
        let first = first.try_clone()?;
        for core in listeners.len()..cores {
            listeners.push(match beside(&first) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::debug!(core, %error, "cores share a listening socket");
                    first.try_clone()?
                }
            });
        }
        for listener in listeners.iter().chain(&self.more) {
            listener.set_nonblocking(true)?;
        }
        let mut of_cores: Vec<Vec<TcpListener>> =
            listeners.into_iter().map(|listener| vec![listener]).collect();
        of_cores[0].extend(self.more);
        Ok(of_cores)
    }
}

/// Another socket that listens where `listener` does.
///
/// The first one was bound without `SO_REUSEPORT`, so that a second server on the same port was noticed. Setting it
/// afterwards lets sockets of this same user, and nobody else's, join.
fn beside(listener: &TcpListener) -> io::Result<TcpListener> {
    let address = listener.local_addr()?;
    sockopt::set_socket_reuseport(listener, true)?;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, sockopt::ipv6_v6only(listener)?)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_socket_is_spread_over_cores_and_each_of_them_gets_connections() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let listeners = Listeners::from(first).spread(3).unwrap();
        assert_eq!(listeners.len(), 3);
        let mut left: Vec<usize> = vec![0, 1, 2];
        let mut clients = Vec::new();
        // Which socket one comes to depends on its port alone; each that is missed has missed hundreds.
        while !left.is_empty() && clients.len() < 500 {
            clients.push(TcpStream::connect(address).unwrap());
            left.retain(|&core| listeners[core][0].accept().is_err());
        }
        assert_eq!(left, Vec::<usize>::new());
    }

    #[test]
    fn a_port_that_is_taken_is_still_noticed() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let _spread = Listeners::from(first).spread(2).unwrap();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn several_sockets_are_used_as_they_are() {
        let sockets =
            vec![TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let more = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses: Vec<_> =
            [&sockets[0], &more, &sockets[1]].map(|socket| socket.local_addr().unwrap()).into();
        let listeners = Listeners::from(sockets).and(more).spread(2).unwrap();
        let kept: Vec<_> = listeners.iter().flatten().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!((kept, listeners[0].len()), (addresses, 2));
        assert!(Listeners::from(Vec::new()).spread(2).is_err());
    }
}
