//! Access tokens: 30 minutes, one at a time for each key pair, five minutes more for who asks in the last one.

use std::collections::HashMap;

use super::faults::draw;

const LIFETIME: i64 = 30 * 60;
const LAST_MINUTE: i64 = 60;
const EXTENSION: i64 = 5 * 60;

/// Each token begins so: whoever looks for tokens in a log knows one by it (tests/daemon/secrets.rs).
const MARK: &str = "5ec7e700";

/// A token as `POST /users/getToken` hands it out. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub text: String,
    pub expired_at: i64,
}

/// The newest token of each account; older ones have expired by the time there is a newer one.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_account: HashMap<String, Token>,
    account_of: HashMap<String, String>,
    issued: u32,
}

impl Tokens {
    /// The token of this account at `now`: the same one until it expires.
    pub fn issue(&mut self, imp_key: &str, now: i64) -> Token {
        if let Some(token) = self.by_account.get_mut(imp_key)
            && now < token.expired_at
        {
            if token.expired_at - now <= LAST_MINUTE {
                token.expired_at += EXTENSION;
            }
            return token.clone();
        }
        self.issued += 1;
        let [a, b, ..] = draw(now.unsigned_abs(), "token", imp_key, self.issued);
        let token = Token { text: format!("{MARK}{a:016x}{b:016x}"), expired_at: now + LIFETIME };
        if let Some(old) = self.by_account.insert(imp_key.to_owned(), token.clone()) {
            self.account_of.remove(&old.text);
        }
        self.account_of.insert(token.text.clone(), imp_key.to_owned());
        token
    }

    /// Whose token this is, while it lives.
    pub fn account(&self, text: &str, now: i64) -> Option<&str> {
        let imp_key = self.account_of.get(text)?;
        let token = self.by_account.get(imp_key)?;
        (now < token.expired_at).then_some(imp_key.as_str())
    }
}
