//! Signals. SIGTERM and SIGINT begin the drain, and a second one exits at once. SIGHUP requests a refresh, and SIGUSR1 a
//! refresh with new leases.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::agent::RefreshRequest;

/// Registered signal handlers. Signals that arrive before [`SignalHandlers::listen`] wait as bytes in the socket pairs.
pub(super) struct SignalHandlers {
    terminate: StdStream,
    refresh: StdStream,
    new_leases: StdStream,
}

/// The signals as an async stream.
pub(super) struct SignalStream {
    terminate: UnixStream,
    refresh: UnixStream,
    new_leases: UnixStream,
}

/// A received signal.
pub(super) enum Signal {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP or SIGUSR1.
    Refresh(RefreshRequest),
}

impl SignalHandlers {
    pub(super) fn register() -> io::Result<Self> {
        let (terminate, on_terminate) = StdStream::pair()?;
        let (refresh, on_refresh) = StdStream::pair()?;
        let (new_leases, on_new_leases) = StdStream::pair()?;
        let second = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Register the conditional shutdown before the flag that arms it, so that the first signal does not exit.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second))?;
            signal_hook::flag::register(signal, Arc::clone(&second))?;
            signal_hook::low_level::pipe::register(signal, on_terminate.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGHUP, on_refresh)?;
        signal_hook::low_level::pipe::register(SIGUSR1, on_new_leases)?;
        Ok(Self { terminate, refresh, new_leases })
    }

    pub(super) fn listen(self) -> io::Result<SignalStream> {
        let asynchronous = |stream: StdStream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        Ok(SignalStream {
            terminate: asynchronous(self.terminate)?,
            refresh: asynchronous(self.refresh)?,
            new_leases: asynchronous(self.new_leases)?,
        })
    }
}

#[cfg(test)]
impl SignalStream {
    /// A stream for tests. A byte in the sockets stands for SIGTERM, SIGHUP, and SIGUSR1.
    pub(super) fn for_test() -> io::Result<(Self, [UnixStream; 3])> {
        let (terminate, term) = UnixStream::pair()?;
        let (refresh, hup) = UnixStream::pair()?;
        let (new_leases, usr1) = UnixStream::pair()?;
        Ok((Self { terminate, refresh, new_leases }, [term, hup, usr1]))
    }
}

impl SignalStream {
    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Signal {
        let (mut one, mut other, mut third) = ([0_u8; 16], [0_u8; 16], [0_u8; 16]);
        // The handlers keep the write ends open, so a read ends only with a byte.
        tokio::select! {
            biased;
            _ = self.terminate.read(&mut one) => Signal::Terminate,
            _ = self.refresh.read(&mut other) => {
                Signal::Refresh(RefreshRequest { new_leases: false, by: "SIGHUP" })
            }
            _ = self.new_leases.read(&mut third) => {
                Signal::Refresh(RefreshRequest { new_leases: true, by: "SIGUSR1" })
            }
        }
    }
}
