//! What every proxy is measured in front of: one kilobyte to whoever asks, and WebSockets that say nothing.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Size of the answer's body.
const BODY: usize = 1024;

/// To the key that RFC 6455 has as its example; HAProxy checks it.
const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The port to listen on
    #[arg(long, env = "PORT")]
    port: u16,
}

/// Serves until it is killed.
///
/// # Errors
/// When the port is taken.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port))).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that leaves ends its own connection alone.
        tokio::spawn(async move { serve(stream).await.ok() });
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    );
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let asks_for_websocket = head.windows(9).any(|window| window.eq_ignore_ascii_case(b"websocket"));
        if asks_for_websocket {
            stream.write_all(AGREED).await?;
            drop(head);
            while stream.read(&mut [0; 64]).await? > 0 {}
            return Ok(());
        }
        stream.write_all(answer.as_bytes()).await?;
        head.clear();
    }
}
