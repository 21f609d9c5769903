//! SIGTERM and SIGINT: drain, and at the second one leave at once. SIGHUP: refresh now.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Registered handlers; bytes wait in the socket pairs until somebody listens.
pub(super) struct SignalHandlers {
    terminate: StdStream,
    refresh: StdStream,
}

/// Handlers with their async ends.
pub(super) struct SignalStream {
    terminate: UnixStream,
    refresh: UnixStream,
}

/// What a signal asks for.
pub(super) enum Signal {
    Terminate,
    Refresh,
}

impl SignalHandlers {
    pub(super) fn register() -> io::Result<Self> {
        let (terminate, on_terminate) = StdStream::pair()?;
        let (refresh, on_refresh) = StdStream::pair()?;
        let second = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The order matters: the conditional shutdown before the flag that arms it, so that the first signal passes.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second))?;
            signal_hook::flag::register(signal, Arc::clone(&second))?;
            signal_hook::low_level::pipe::register(signal, on_terminate.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGHUP, on_refresh)?;
        Ok(Self { terminate, refresh })
    }

    pub(super) fn listen(self) -> io::Result<SignalStream> {
        let asynchronous = |stream: StdStream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        Ok(SignalStream { terminate: asynchronous(self.terminate)?, refresh: asynchronous(self.refresh)? })
    }
}

#[cfg(test)]
impl SignalStream {
    /// Handlers without signals: a byte into the first stream is a SIGTERM, one into the second a SIGHUP.
    pub(super) fn for_test() -> io::Result<(Self, UnixStream, UnixStream)> {
        let (terminate, term) = UnixStream::pair()?;
        let (refresh, hup) = UnixStream::pair()?;
        Ok((Self { terminate, refresh }, term, hup))
    }
}

impl SignalStream {
    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Signal {
        let (mut one, mut other) = ([0_u8; 16], [0_u8; 16]);
        // The write ends live in the handlers as long as the process: a read ends with a byte.
        tokio::select! {
            biased;
            _ = self.terminate.read(&mut one) => Signal::Terminate,
            _ = self.refresh.read(&mut other) => Signal::Refresh,
        }
    }
}
