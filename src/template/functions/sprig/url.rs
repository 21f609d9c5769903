//! URLs, as Go's package `net/url`.

use std::net::Ipv6Addr;

use gotmpl::Value;

use super::super::super::bytes::{from_text, to_text};
use super::super::super::value::{map, text};
use super::super::{Arguments, Function};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[("sprig_urlJoin", join), ("sprig_urlParse", parse)];

/// The part of a URL that a text is in. Each has its own characters that are not escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    User,
    Host,
    Path,
    Fragment,
}

impl Part {
    fn contains(self, byte: u8) -> bool {
        let extra: &[u8] = match self {
            Self::User => b"$&+,;=",
            Self::Host => b"!$&'()*+,;=:[]<>\"",
            Self::Path => b"$&+,/:;=@",
            Self::Fragment => b"$&+,/:;=?@!()*",
        };
        byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || extra.contains(&byte)
    }

    fn escape(self, text: &str) -> String {
        let escape = |byte: &u8| match byte {
            byte if self.contains(*byte) => char::from(*byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        from_text(text).iter().map(escape).collect()
    }

    /// `None` for an invalid escape, and for a character that a host cannot contain.
    fn unescape(self, text: &str) -> Option<String> {
        let bytes = from_text(text);
        let mut rest = &bytes[..];
        let mut unescaped = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte == b'%' {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                let value = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
                if self == Self::Host && value < 0x80 && digits != "25" {
                    return None;
                }
                unescaped.push(value);
                rest = &after[2..];
            } else if self == Self::Host && byte.is_ascii() && !self.contains(byte) {
                return None;
            } else {
                unescaped.push(byte);
            }
        }
        Some(to_text(&unescaped).into_owned())
    }
}

fn parse(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let parts = parts(arguments.text(0)?).ok_or_else(|| "the text is not a URL".to_owned())?;
    Ok(map(parts.into_iter().map(|(key, part)| (key, text(&part)))))
}

fn parts(url: &str) -> Option<[(&'static str, String); 8]> {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (scheme, rest) = scheme(url)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut opaque, mut user, mut host, mut path) = ("", String::new(), String::new(), rest);
    if !rest.starts_with('/') && !scheme.is_empty() {
        (opaque, path) = (rest, "");
    } else if !rest.starts_with('/') && rest.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    } else if let Some(after) = rest.strip_prefix("//").filter(|rest| !scheme.is_empty() || !rest.starts_with('/')) {
        let (authority, after) = after.split_at(after.find('/').unwrap_or(after.len()));
        path = after;
        let (of_user, of_host) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        host = self::host(&scheme, of_host)?;
        if let Some(of_user) = of_user {
            user = userinfo(of_user)?;
        }
    }
    let hostname = hostname(&host);
    Some([
        ("scheme", scheme),
        ("host", host),
        ("hostname", hostname),
        ("path", if url == "*" { "*".to_owned() } else { Part::Path.unescape(path)? }),
        ("query", query.to_owned()),
        ("opaque", opaque.to_owned()),
        ("fragment", Part::Fragment.unescape(fragment)?),
        ("userinfo", user),
    ])
}

/// The scheme in lower case, and the rest. `None` if the scheme is empty.
fn scheme(url: &str) -> Option<(String, &str)> {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match url.split_once(':') {
        Some(("", _)) => None,
        Some((scheme, rest)) if scheme.chars().all(is_of_scheme) && scheme.starts_with(|c: char| c.is_alphabetic()) => {
            Some((scheme.to_ascii_lowercase(), rest))
        }
        _ => Some((String::new(), url)),
    }
}

/// Name and password with the escapes that they need.
fn userinfo(of: &str) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !of.bytes().all(is_allowed) {
        return None;
    }
    let normal = |part: &str| Some(Part::User.escape(&Part::User.unescape(part)?));
    match of.split_once(':') {
        None => normal(of),
        Some((name, password)) => Some(format!("{}:{}", normal(name)?, normal(password)?)),
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').map_or(text.is_empty(), |port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn host(scheme: &str, host: &str) -> Option<String> {
    match host.rfind('[') {
        Some(0) => {
            let (address, port) = host.split_at(host.rfind(']')? + 1);
            let (address, zone) = address.trim_matches(['[', ']']).split_once("%25").map_or_else(
                || (&address[1..address.len() - 1], String::new()),
                |(address, zone)| (address, format!("%{zone}")),
            );
            let is_valid = address.parse::<Ipv6Addr>().is_ok() && is_port(port) && zone != "%";
            is_valid.then(|| format!("[{address}{zone}]{port}"))
        }
        Some(_) => None,
        None => {
            // Lists of hosts are allowed for databases.
            let colon = if matches!(scheme, "http" | "https") { host.find(':') } else { host.rfind(':') };
            if colon.is_some_and(|colon| !is_port(&host[colon..])) { None } else { Part::Host.unescape(host) }
        }
    }
}

fn hostname(host: &str) -> String {
    let name = host.rfind(':').filter(|colon| is_port(&host[*colon..])).map_or(host, |colon| &host[..colon]);
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).to_owned()
}

fn join(arguments: &Arguments<'_>) -> Result<Value, String> {
    arguments.exactly(1)?;
    let entries = arguments.map(0)?;
    let part = |key: &str| match entries.get(key) {
        None => Ok(String::new()),
        Some(Value::String(part)) => Ok(part.to_string()),
        Some(other) => Err(format!("{key} must be text, not {}", arguments.kind(other))),
    };
    let (scheme, host, path, query) = (part("scheme")?, part("host")?, part("path")?, part("query")?);
    let (opaque, fragment, user) = (part("opaque")?, part("fragment")?, part("userinfo")?);
    let user = if user.is_empty() {
        None
    } else {
        Some(userinfo(&user).ok_or_else(|| "userinfo is not a name and a password of a URL".to_owned())?)
    };
    let mut url = String::new();
    if !scheme.is_empty() {
        url.push_str(&scheme);
        url.push(':');
    }
    if opaque.is_empty() {
        if !host.is_empty() || user.is_some() || (!scheme.is_empty() && !path.is_empty()) {
            url.push_str("//");
        }
        if let Some(user) = user {
            url.push_str(&user);
            url.push('@');
        }
        url.push_str(&Part::Host.escape(&host));
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            url.push('/');
        }
        let path = if path == "*" { path } else { Part::Path.escape(&path) };
        if url.is_empty() && path.split('/').next().is_some_and(|first| first.contains(':')) {
            url.push_str("./");
        }
        url.push_str(&path);
    } else {
        url.push_str(&opaque);
    }
    if !query.is_empty() {
        url.push('?');
        url.push_str(&query);
    }
    if !fragment.is_empty() {
        url.push('#');
        url.push_str(&Part::Fragment.escape(&fragment));
    }
    Ok(text(&url))
}
