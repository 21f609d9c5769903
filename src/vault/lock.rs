//! Locking of small state.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks state that is never held over an await and never left half-changed, so a panic elsewhere does not matter.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
