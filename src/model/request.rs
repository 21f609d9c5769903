//! Method and parameters of the request of a source.

use std::collections::BTreeMap;
use std::fmt;

/// Method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestMethod {
    /// `GET`, like `vault read`.
    #[default]
    Read,
    /// `POST`, like `vault write`: the engine issues or computes the content.
    Write,
    /// `GET` with `list=true`, like `vault list`: the content is the key `keys` with the names below the path.
    List,
    /// `POST`, like `vault token create`: the content is a child token of the agent's token.
    CreateToken,
}

impl RequestMethod {
    /// The part of [`Source::request_id`](super::Source::request_id) for the method.
    pub(super) const fn request_id(self) -> &'static str {
        match self {
            Self::Read => "",
            Self::Write => "#method=write",
            Self::List => "#method=list",
            Self::CreateToken => "#method=create-token",
        }
    }
}

/// Parameters of a request, by name. They contain no secret.
pub type Parameters = BTreeMap<String, Parameter>;

/// Value of a parameter. `Display` quotes text and escapes it as Rust does, so that different values look different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// Text; durations such as `24h` are text for Vault too.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    List(Vec<Parameter>),
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}
