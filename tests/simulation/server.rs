//! A simulated Vault server: logins, tokens that own leases, secrets, and faults.

#[path = "leases.rs"]
mod leases;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyferry::agent::Outcome;
use keyferry::model::{
    AuthMethod, Failure, FailureClass, Lease, LeaseId, Reading, Reason, Session, Settings, TokenInfo, Validity,
    VaultToken, Version,
};

use super::pki;
use super::random::Random;
use super::secrets::{Kind, Secret, list_id, values};

pub use leases::id_of;

/// Maximum time until a new token is known to all nodes.
const TOKEN_LAG: Duration = Duration::from_secs(3);

/// The time of a server's clock.
pub fn timestamp(now: Duration) -> Timestamp {
    let base: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    base + SignedDuration::try_from(now).expect("a short run")
}

/// One of this number of leases is a child token.
const CHILD_EVERY: u64 = 3;

/// A role of an auth method, and its tokens.
#[derive(Clone, Copy)]
pub struct Role {
    pub ttl: Duration,
    pub max_ttl: Duration,
    pub renewable: bool,
    /// Its tokens are allowed to look up, renew and revoke themselves.
    pub default_policy: bool,
    /// Its tokens are allowed to revoke and look up leases.
    pub lease_policy: bool,
}

pub struct TokenState {
    pub issued: Duration,
    pub ends: Duration,
    pub max: Duration,
    pub role: Role,
    /// The process that logged in; 0 for a token that a user created.
    pub owner: u64,
    /// The login response reached the process.
    pub delivered: bool,
    /// A revocation failed.
    pub unrevoked: bool,
}

pub struct LeaseState {
    pub path: String,
    pub token: Vec<u8>,
    pub ends: Duration,
    pub max: Duration,
    pub ttl: Duration,
    pub renewable: bool,
}

/// Faults of the whole server, each with its end time.
#[derive(Default, Clone, Copy)]
pub struct ServerFaults {
    pub unreachable: Duration,
    pub sealed: Duration,
    pub limited: Duration,
    pub frozen: Duration,
    /// Responses get lost.
    pub flaky: Duration,
    /// Some requests reach a standby that lags by `lag`.
    pub lagging: Duration,
    pub lag: Duration,
    pub login_denied: Duration,
}

pub struct Server {
    pub name: &'static str,
    pub roles: BTreeMap<&'static str, Role>,
    pub secrets: BTreeMap<String, Secret>,
    pub tokens: BTreeMap<Vec<u8>, TokenState>,
    pub leases: BTreeMap<String, LeaseState>,
    pub faults: ServerFaults,
    /// Whether the server reports "invalid token" for an unknown token, as recent versions do.
    pub reports_invalid_token: bool,
    /// The CA that issued its certificate.
    pub authority: &'static str,
    pub retry_after: Duration,
    /// End of the wait that the server requested with Retry-After.
    pub asked_to_wait: Duration,
    /// The supplied token in the token file.
    pub given: Option<Vec<u8>>,
    pub counter: u64,
}

fn fail(class: FailureClass, reason: Reason, text: &str) -> Failure {
    Failure::new(class, reason, format!("failed to query the simulated server: {text}"))
}

fn lease_lost() -> Failure {
    fail(FailureClass::Missing, Reason::LeaseLost, "lease not found")
}

impl Server {
    pub fn token_is_alive(&self, token: &[u8], now: Duration) -> bool {
        self.tokens.get(token).is_some_and(|state| state.ends > now)
    }

    pub fn lease_is_alive(&self, id: &str, now: Duration) -> bool {
        self.leases.get(id).is_some_and(|lease| lease.ends > now && self.token_is_alive(&lease.token, now))
    }

    /// Removes expired tokens and leases.
    pub fn tidy(&mut self, now: Duration) {
        self.tokens.retain(|_, token| token.ends > now);
        let tokens = &self.tokens;
        self.leases.retain(|_, lease| lease.ends > now && tokens.contains_key(&lease.token));
    }

    pub fn is_up(&self, now: Duration) -> bool {
        let ServerFaults { unreachable, sealed, limited, frozen, flaky, .. } = self.faults;
        [unreachable, sealed, limited, frozen, flaky, self.asked_to_wait].iter().all(|until| *until <= now)
    }

    pub fn issue(&mut self, role: Role, owner: u64, now: Duration) -> Vec<u8> {
        self.counter += 1;
        let token = format!("hvs.{}.{}", self.name, self.counter).into_bytes();
        let (ends, max) = (now + role.ttl.min(role.max_ttl), now + role.max_ttl);
        let state = TokenState { issued: now, ends, max, role, owner, delivered: false, unrevoked: false };
        self.tokens.insert(token.clone(), state);
        token
    }

    fn unknown(&self, rule: &str) -> Failure {
        if self.reports_invalid_token {
            return fail(FailureClass::TokenInvalid, Reason::TokenExpired, "permission denied: invalid token");
        }
        Self::forbidden(rule)
    }

    fn forbidden(rule: &str) -> Failure {
        let rule = format!("path \"{rule}\" {{ capabilities = [\"read\"] }}");
        Failure { missing_rule: Some(rule), ..fail(FailureClass::Forbidden, Reason::Denied, "permission denied") }
    }

    /// Returns the lag of the node that responds, or the failure of a server that does not.
    fn reach(&mut self, settings: &Settings, now: Duration, random: &mut Random) -> Result<Duration, Failure> {
        let authority = settings.server.tls.ca_file.as_ref().and_then(|file| file.to_str()).unwrap_or("/ca-1.pem");
        if authority != self.authority {
            return Err(fail(FailureClass::Unreachable, Reason::VaultUnreachable, "unknown CA"));
        }
        if self.faults.unreachable > now {
            return Err(fail(FailureClass::Unreachable, Reason::VaultUnreachable, "connection refused"));
        }
        if self.faults.sealed > now {
            return Err(fail(FailureClass::Transient, Reason::Sealed, "Vault is sealed"));
        }
        if self.faults.limited > now {
            let retry_after = (!self.retry_after.is_zero()).then_some(self.retry_after);
            self.asked_to_wait = self.asked_to_wait.max(now + self.retry_after.min(Duration::from_secs(600)));
            return Err(Failure { retry_after, ..fail(FailureClass::Transient, Reason::RateLimited, "429") });
        }
        Ok(if self.faults.lagging > now && random.chance(50) { self.faults.lag } else { Duration::ZERO })
    }

    /// The token, if the node that responds knows it.
    fn known(&self, token: &VaultToken, now: Duration, lag: Duration, rule: &str) -> Result<&TokenState, Failure> {
        let state = self.tokens.get(token.expose()).filter(|state| state.ends > now);
        state.filter(|state| state.issued + lag <= now).ok_or_else(|| self.unknown(rule))
    }

    /// The token, if the node that responds knows it and `permits` returns true for its role.
    fn permitted(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        rule: &str,
        permits: impl Fn(&Role) -> bool,
        now: Duration,
        random: &mut Random,
    ) -> Result<&TokenState, Failure> {
        let lag = self.reach(settings, now, random)?;
        let state = self.known(token, now, lag.min(TOKEN_LAG), rule)?;
        if permits(&state.role) { Ok(state) } else { Err(Self::forbidden(rule)) }
    }

    fn info(state: &TokenState, now: Duration) -> TokenInfo {
        TokenInfo { ttl: Some(state.ends - now), renewable: state.role.renewable }
    }

    pub fn log_in(
        &mut self,
        settings: &Settings,
        owner: u64,
        now: Duration,
        random: &mut Random,
    ) -> Result<Session, Failure> {
        self.reach(settings, now, random)?;
        let refused = || fail(FailureClass::Denied, Reason::LoginRefused, "invalid role name or credential");
        let AuthMethod::Kubernetes { role, .. } = &settings.auth.method else {
            let token = self.given.clone().ok_or_else(refused)?;
            let state = self.tokens.get(&token).filter(|state| state.ends > now).ok_or_else(refused)?;
            let lookup_denied = !state.role.default_policy;
            let info = if lookup_denied { TokenInfo { ttl: None, renewable: false } } else { Self::info(state, now) };
            let token = VaultToken::new(&String::from_utf8_lossy(&token));
            return Ok(Session { token, info, self_issued: false, lookup_denied });
        };
        let role =
            self.roles.get(role.as_str()).copied().filter(|_| self.faults.login_denied <= now).ok_or_else(refused)?;
        let token = self.issue(role, owner, now);
        let info = Self::info(&self.tokens[&token], now);
        let token = VaultToken::new(&String::from_utf8_lossy(&token));
        Ok(Session { token, info, self_issued: true, lookup_denied: false })
    }

    pub fn look_up(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        now: Duration,
        random: &mut Random,
    ) -> Result<TokenInfo, Failure> {
        let permits = |role: &Role| role.default_policy;
        Ok(Self::info(self.permitted(settings, token, "auth/token/lookup-self", permits, now, random)?, now))
    }

    pub fn renew_token(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        now: Duration,
        random: &mut Random,
    ) -> Result<TokenInfo, Failure> {
        let permits = |role: &Role| role.default_policy;
        let state = self.permitted(settings, token, "auth/token/renew-self", permits, now, random)?;
        if !state.role.renewable {
            return Err(fail(FailureClass::Invalid, Reason::InvalidRequest, "the token cannot be renewed"));
        }
        let state = self.tokens.get_mut(token.expose()).expect("the token is known");
        state.ends = state.ends.max((now + state.role.ttl).min(state.max));
        Ok(Self::info(state, now))
    }

    pub fn revoke(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        now: Duration,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let child = String::from_utf8_lossy(token.expose()).into_owned();
        if self.leases.contains_key(&child) {
            self.reach(settings, now, random)?;
            self.leases.remove(&child);
            return Ok(());
        }
        let permits = |role: &Role| role.default_policy;
        let result = self.permitted(settings, token, "auth/token/revoke-self", permits, now, random).map(|_| ());
        match &result {
            Ok(()) => self.end_token(token.expose()),
            Err(_) => {
                if let Some(state) = self.tokens.get_mut(token.expose()) {
                    state.unrevoked = true;
                }
            }
        }
        result
    }

    pub fn end_token(&mut self, token: &[u8]) {
        self.tokens.remove(token);
        self.leases.retain(|_, lease| lease.token != token);
    }

    pub fn read(
        &mut self,
        settings: &Settings,
        token: &VaultToken,
        path: &str,
        now: Duration,
        random: &mut Random,
    ) -> Result<(Reading, Rc<str>), Failure> {
        let lag = self.reach(settings, now, random)?;
        self.known(token, now, lag.min(TOKEN_LAG), path)?;
        let missing = || fail(FailureClass::Missing, Reason::SecretNotFound, "404");
        let (server, lagging) = (self.name, if self.faults.lagging > now { self.faults.lag } else { Duration::ZERO });
        let secret = self.secrets.get_mut(path).ok_or_else(missing)?;
        if secret.faults.denied > now {
            return Err(Self::forbidden(path));
        }
        if secret.faults.broken > now {
            return Err(fail(FailureClass::Transient, Reason::ServerError, "500"));
        }
        let (mut kind, shape) = (secret.kind, secret.shape);
        if secret.faults.zero > now {
            let short = Duration::from_millis(300) * u32::from(random.chance(50));
            match &mut kind {
                Kind::Leased { ttl, .. } => *ttl = short,
                Kind::Expires(life) | Kind::Certificate(life) => *life = short,
                Kind::Versioned | Kind::List | Kind::Rotates(_) => {}
            }
        }
        let made = |id: Rc<str>, version, shape, validity| {
            let reading = Reading {
                data: values(&id, shape, &version),
                version,
                validity,
                warnings: Vec::new(),
                ..Reading::default()
            };
            (reading, id)
        };
        self.counter += 1;
        let id: Rc<str> = format!("{path}@{}#{}", self.name, self.counter).into();
        match kind {
            Kind::Versioned => {
                let content = secret.seen(now, lag).cloned().ok_or_else(missing)?;
                Ok(made(content.id, content.version, content.shape, Validity::Unlimited))
            }
            Kind::List => {
                let (version, shape) = secret.list_seen(now, lagging, random).ok_or_else(missing)?;
                Ok(made(list_id(path, server, shape, &version), version, shape, Validity::Unlimited))
            }
            Kind::Rotates(_) => {
                let content = secret.seen(now, lag).cloned().ok_or_else(missing)?;
                let left =
                    if secret.faults.zero > now { Duration::ZERO } else { secret.rotates_at.saturating_sub(now) };
                Ok(made(content.id, Version::default(), content.shape, Validity::Rotates(left)))
            }
            Kind::Expires(life) => Ok(made(id, Version::default(), shape, Validity::Expires(life))),
            Kind::Certificate(life) => Ok((pki::issue(&id, shape, life, &secret.faults, now), id)),
            Kind::Leased { ttl, max_ttl, renewable } => {
                let lease = format!("{path}/{}", self.counter);
                let state = LeaseState {
                    path: path.to_owned(),
                    token: token.expose().to_vec(),
                    ends: now + ttl,
                    max: now + max_ttl,
                    ttl,
                    renewable,
                };
                self.leases.insert(lease.clone(), state);
                let is_child = self.counter.is_multiple_of(CHILD_EVERY);
                let lease = if is_child { LeaseId::Token(VaultToken::new(&lease)) } else { LeaseId::Id(lease) };
                let validity = Validity::Lease(Lease { id: lease, duration: ttl, renewable });
                Ok(made(id, Version::default(), shape, validity))
            }
        }
    }
}

/// The outcome if the response is lost.
pub fn lost(outcome: &Outcome) -> Outcome {
    let failure = || fail(FailureClass::Unreachable, Reason::VaultUnreachable, "no answer in time");
    match outcome {
        Outcome::LoggedIn(_) => Outcome::LoggedIn(Err(failure())),
        Outcome::Restored(_) => Outcome::Restored(Err(failure())),
        Outcome::LookedUp(_) => Outcome::LookedUp(Err(failure())),
        Outcome::TokenRenewed(_) => Outcome::TokenRenewed(Err(failure())),
        Outcome::Read(_) => Outcome::Read(Err(failure())),
        Outcome::LeaseRenewed(_) => Outcome::LeaseRenewed(Err(failure())),
        Outcome::LeaseLookedUp(_) => Outcome::LeaseLookedUp(Err(failure())),
        Outcome::LeaseRevoked(_) => Outcome::LeaseRevoked(Err(failure())),
        Outcome::Unsubscribed(_) => Outcome::Unsubscribed(Err(failure())),
        Outcome::SeedRead(_) => Outcome::SeedRead(Err(failure())),
        Outcome::Published(_) => Outcome::Published(Err(failure())),
        Outcome::Retired(_) => Outcome::Retired(Err(failure())),
        Outcome::Notified(_) => Outcome::Notified(Err(failure())),
        Outcome::Mirrored(_) => Outcome::Mirrored(Err(failure())),
        Outcome::ConditionsPatched(_) => Outcome::ConditionsPatched(Err(failure())),
        Outcome::EventRecorded(_) => Outcome::EventRecorded(Err(failure())),
        Outcome::Saved(_) => Outcome::Saved(Err(failure())),
        Outcome::Revoked(_) => Outcome::Revoked(Err(failure())),
    }
}
