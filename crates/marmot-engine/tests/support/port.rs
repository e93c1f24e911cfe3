//! A port for a program that cannot be told to choose one itself.

/// Nobody else is given it while this is kept, and the program may listen there: both say that they share the address.
pub(crate) struct Port {
    pub(crate) number: u16,
    _bound: tokio::net::TcpSocket,
}

impl Port {
    /// One of the machine's loopback.
    pub(crate) fn hold() -> Self {
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.set_reuseaddr(true).unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { number: bound.local_addr().unwrap().port(), _bound: bound }
    }
}
