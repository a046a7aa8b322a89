//! Standard Webhooks signatures: HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use crate::ports::secret::Secret;

/// What a signing secret begins with; base64 follows.
pub const SECRET_PREFIX: &str = "whsec_";

const VERSION: &str = "v1";

/// The scheme wants 192 bits at least.
const SHORTEST: usize = 24;

/// How far the signed time may be from the receiver's.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// The value of `webhook-signature`; `None` if the secret is none.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    Some(Key::read(secret)?.sign(id, timestamp, body))
}

/// Whether `signature` (one or more, separated by spaces) was made with `secret`, and at most five minutes from `now`.
///
/// Takes the headers as they came. The comparison takes the same time whatever is wrong with the signature.
pub fn verify(secret: &Secret, id: &str, timestamp: &str, body: &[u8], signature: &str, now: Timestamp) -> bool {
    let Some(key) = Key::read(secret) else { return false };
    let Ok(second) = timestamp.parse::<i64>() else { return false };
    // as it would be written: `+5` and `05` sign another text
    if second.to_string() != timestamp {
        return false;
    }
    let recent = Timestamp::from_second(second).is_ok_and(|signed| signed.duration_since(now).abs() <= TOLERANCE);
    let mac = key.mac(id, second, body);
    let mut valid = false;
    for one in signature.split(' ') {
        let Some((VERSION, code)) = one.split_once(',') else { continue };
        let Ok(code) = STANDARD.decode(code) else { continue };
        valid |= mac.clone().verify_slice(&code).is_ok();
    }
    valid && recent
}

/// A secret, ready to sign.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    pub fn read(secret: &Secret) -> Option<Self> {
        let bytes = STANDARD.decode(secret.reveal().strip_prefix(SECRET_PREFIX)?).ok()?;
        (bytes.len() >= SHORTEST).then_some(())?;
        Hmac::new_from_slice(&bytes).ok().map(Self)
    }

    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let code = STANDARD.encode(self.mac(id, timestamp, body).finalize().into_bytes());
        format!("{VERSION},{code}")
    }

    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the official Standard Webhooks libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECOND: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn check(id: &str, timestamp: &str, body: &[u8], signature: &str, seconds_later: i64) -> bool {
        let now = Timestamp::from_second(SECOND + seconds_later).unwrap();
        verify(&Secret::new(SECRET), id, timestamp, body, signature, now)
    }

    #[test]
    fn the_official_vector_is_signed_and_verified() {
        assert_eq!(sign(&Secret::new(SECRET), ID, SECOND, BODY).as_deref(), Some(SIGNATURE));
        assert!(check(ID, "1614265330", BODY, SIGNATURE, 0));
        assert!(check(ID, "1614265330", BODY, &format!("v2,abcd v1,AAAA {SIGNATURE}"), 0));
    }

    #[test]
    fn whatever_differs_is_refused() {
        assert!(!check("msg_other", "1614265330", BODY, SIGNATURE, 0));
        assert!(!check(ID, "1614265331", BODY, SIGNATURE, 0));
        assert!(!check(ID, "01614265330", BODY, SIGNATURE, 0));
        assert!(!check(ID, "soon", BODY, SIGNATURE, 0));
        assert!(!check(ID, "1614265330", b"{}", SIGNATURE, 0));
        for signature in ["", "v1,", "v1", &SIGNATURE[3..], &SIGNATURE.replace("v1", "v2"), &SIGNATURE[..30]] {
            assert!(!check(ID, "1614265330", BODY, signature, 0), "{signature}");
        }
    }

    #[test]
    fn an_old_or_an_early_delivery_is_refused() {
        for (seconds_later, expected) in [(300, true), (301, false), (-300, true), (-301, false)] {
            assert_eq!(check(ID, "1614265330", BODY, SIGNATURE, seconds_later), expected, "{seconds_later}");
        }
    }

    #[test]
    fn a_weak_or_malformed_secret_signs_nothing() {
        for secret in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_not base64 at all!"] {
            assert_eq!(sign(&Secret::new(secret), ID, SECOND, BODY), None, "{secret}");
        }
    }
}
