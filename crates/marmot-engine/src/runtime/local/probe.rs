//! Whether a booting program answers on its port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::sockets::Sockets;

/// Asked this often at first, and never less often than that.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// A pause is such a part of the time that has passed: not being told adds a thousandth to a boot. To ask where nobody
/// listens takes a hundredth of the shortest pause.
const PAUSE_PART: u32 = 500;
/// A program that accepts connections may take a while for its first answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The rest of the answer is of no interest: what has not come by then is not waited for.
const REST_WITHIN: Duration = Duration::from_secs(1);
const LONGEST_ANSWER: u64 = 1 << 20;

/// Returns once something at `address` has answered an HTTP request, whatever its status, and `ours`, which may take a
/// while, says that it is the program that is waited for. The kernel tells nobody of a port being opened, so this asks again and again.
pub(super) async fn until_it_answers(
    address: SocketAddr,
    sockets: Option<Arc<Sockets>>,
    ours: impl Fn() -> bool + Clone + Send + 'static,
) {
    let began = Instant::now();
    loop {
        if let Ok(stream) = connect(address, sockets.as_deref()).await {
            let answered = tokio::time::timeout(ANSWER_WITHIN, answers(stream, address)).await;
            if matches!(answered, Ok(Ok(true)))
                && tokio::task::spawn_blocking(ours.clone()).await.unwrap_or(false)
            {
                return;
            }
        }
        tokio::time::sleep((began.elapsed() / PAUSE_PART).clamp(PAUSES.0, PAUSES.1)).await;
    }
}

async fn connect(address: SocketAddr, sockets: Option<&Sockets>) -> io::Result<TcpStream> {
    let Some(sockets) = sockets else { return TcpStream::connect(address).await };
    TcpSocket::from_std_stream(sockets.open().await?.into()).connect(address).await
}

async fn answers(mut stream: TcpStream, address: SocketAddr) -> io::Result<bool> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUser-Agent: marmot-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 5];
    stream.read_exact(&mut start).await?;
    // Hanging up on the rest of an answer would put an error into the log of most programs. Nobody waits for it.
    let rest = async move { tokio::io::copy(&mut stream.take(LONGEST_ANSWER), &mut tokio::io::sink()).await };
    tokio::spawn(tokio::time::timeout(REST_WITHIN, rest));
    Ok(&start == b"HTTP/")
}
