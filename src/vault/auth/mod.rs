//! Login methods. Each file has a pure function from settings and credential to a request.

pub(super) mod approle;
pub(super) mod jwt;
pub(super) mod kubernetes;
pub(super) mod token;

mod claims;
