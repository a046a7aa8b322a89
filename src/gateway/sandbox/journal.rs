//! The ledger as a file of JSON lines, so that it outlives a killed sandbox.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ledger::{Cancellation, Customer, Ledger, PaymentRecord, PostRecord, Processed};
use super::schedules::{BookingRecord, put};

/// One line. What it says is done at once when it is read again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry<'a> {
    /// A POST arrived.
    Post(Cow<'a, PostRecord>),
    /// It was processed.
    Processed { post: u64, end: Cow<'a, Processed> },
    /// A payment was made.
    Payment(Cow<'a, PaymentRecord>),
    /// Money was given back.
    Cancelled { imp_key: Cow<'a, str>, tier: Option<Cow<'a, str>>, imp_uid: Cow<'a, str>, cancellation: Cow<'a, Cancellation> },
    /// A charge was booked in the gateway's own schedule, or its booking was taken back.
    Booking { imp_key: Cow<'a, str>, tier: Option<Cow<'a, str>>, booking: Cow<'a, BookingRecord> },
    /// A card was registered, replaced or deleted.
    Customer { imp_key: Cow<'a, str>, tier: Option<Cow<'a, str>>, customer_uid: Cow<'a, str>, customer: Cow<'a, Customer> },
}

/// Where entries go; nowhere without a file.
#[derive(Debug, Default)]
pub(super) struct Journal {
    file: Option<File>,
    waiting: Vec<u8>,
}

impl Journal {
    /// Reads what is there into `ledger` and appends from then on. An incomplete last line is what a kill leaves behind: it
    /// is cut off.
    ///
    /// # Errors
    /// The file cannot be read or written, or a complete line of it is no entry.
    pub fn open(path: &Path, ledger: &mut Ledger) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        for (index, line) in text[..whole].lines().enumerate() {
            let entry: Entry<'_> = serde_json::from_str(line).map_err(|error| {
                let place = format!("{} line {}: {error}", path.display(), index + 1);
                io::Error::new(io::ErrorKind::InvalidData, place)
            })?;
            apply(entry, ledger);
        }
        if whole < text.len() {
            file.set_len(whole as u64)?;
        }
        Ok(Self { file: Some(file), waiting: Vec::new() })
    }

    /// Adds a line to what [`Journal::write`] writes.
    pub fn add(&mut self, entry: &Entry<'_>) {
        if self.file.is_some() && serde_json::to_writer(&mut self.waiting, entry).is_ok() {
            self.waiting.push(b'\n');
        }
    }

    /// Hands all added lines to the operating system, before anybody is told what they say.
    pub fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        if self.waiting.is_empty() {
            return;
        }
        if let Err(error) = file.write_all(&self.waiting) {
            tracing::error!(%error, "the sandbox cannot write its ledger file; it lives on in memory only");
            self.file = None;
        }
        self.waiting.clear();
    }
}

fn apply(entry: Entry<'_>, ledger: &mut Ledger) {
    match entry {
        Entry::Post(post) => ledger.posts.push(post.into_owned()),
        Entry::Processed { post, end } => {
            if let Some(post) = usize::try_from(post).ok().and_then(|post| ledger.posts.get_mut(post)) {
                post.processed = Some(end.into_owned());
            }
        }
        Entry::Payment(payment) => ledger.add_payment(payment.into_owned()),
        Entry::Cancelled { imp_key, tier, imp_uid, cancellation } => {
            ledger.add_cancellation(&imp_key, tier.as_deref(), &imp_uid, cancellation.into_owned());
        }
        Entry::Booking { imp_key, tier, booking } => {
            let scope = ledger.scope_of(&imp_key, tier.as_deref());
            put(&mut ledger.scope_mut(scope).bookings, booking.into_owned());
        }
        Entry::Customer { imp_key, tier, customer_uid, customer } => {
            let scope = ledger.scope_of(&imp_key, tier.as_deref());
            ledger.scope_mut(scope).customers.insert(customer_uid.into_owned(), customer.into_owned());
        }
    }
}
