//! A TCP relay from this machine's loopback device into the network namespace of the cluster.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream};

/// Starts a relay and returns its loopback address. A socket belongs to the namespace in which it was created: the listener
/// is created here, then the thread that serves it enters the cluster's namespace and connects there.
pub fn start(namespace: File, inside: SocketAddr) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", super::super::free_port()?))?;
    listener.set_nonblocking(true)?;
    let outside = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::Builder::new().name(format!("relay-{}", outside.port())).spawn(move || {
        let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        let entered = moved.is_ok();
        let _ = sender.send(moved);
        if entered {
            runtime.block_on(serve(listener, inside));
        }
    })?;
    receiver.recv()?.context("failed to enter the cluster's network namespace")?;
    Ok(outside)
}

async fn serve(listener: std::net::TcpListener, inside: SocketAddr) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let serve = tokio::task::LocalSet::new();
    serve
        .run_until(async {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    // Nothing listens there: close the connection, as with a server that is down.
                    let Ok(mut far) = TcpStream::connect(inside).await else { return };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        })
        .await;
}
