//! What of a file looks wrong, before anything of it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::import::{BATCH, cost_of};
use super::sheet::Sheet;
use crate::cli::context::Opened;
use crate::cli::failure::Failure;
use crate::cli::output::local;
use crate::domain::guards::{Candidate, Suspicion, weigh};
use crate::domain::lifecycle::{Next, Progress, next_period, seen};
use crate::store::desk::columns::{ACCOUNT, AMOUNT, CUSTOMER_UID, EXTERNAL_REF, PLAN};
use crate::store::desk::{Given, HeldRow, Import, Imported, Verdict, hash_of, hashes, terms_of};

/// Billing keys that are asked for together: each question reads all subscriptions once.
const KEYS: usize = 50_000;
/// Columns that change what a period costs.
const PRICES: [&str; 4] = ["plan", "amount", "currency", "quantity"];

/// Rows that are held already, by account and reference.
pub struct Held {
    rows: HashMap<(String, String), HeldRow>,
    /// Of the groups that can be ruled on.
    hashes: BTreeSet<String>,
}

impl Held {
    pub fn of(rows: Vec<HeldRow>) -> Self {
        let key = |row: &HeldRow| (row.account.clone(), row.external_ref.clone());
        let waiting: Vec<HeldRow> = rows.iter().filter(|row| row.rejected_at.is_none()).cloned().collect();
        let hashes = hashes(&waiting).into_values().collect();
        Self { rows: rows.into_iter().map(|row| (key(&row), row)).collect(), hashes }
    }

    /// Whether `imports confirm` takes this hash.
    pub fn is_group(&self, hash: &str) -> bool {
        self.hashes.contains(hash)
    }

    /// The held row of the same account and reference.
    pub fn get(&self, cells: &[Given]) -> Option<&HeldRow> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(&(text(&cells[ACCOUNT]).to_owned(), text(&cells[EXTERNAL_REF]).to_owned()))
    }

    /// One that was held, or rejected, as it is now.
    pub fn same(&self, cells: &[Given]) -> Option<&HeldRow> {
        self.get(cells).filter(|row| row.row_hash == hash_of(std::iter::once(cells)))
    }
}

pub fn text(given: &Given) -> &str {
    match given {
        Given::Value(text) => text,
        Given::Not | Given::Empty => "",
    }
}

/// What looks wrong, by line; rows that are held already are left out.
pub async fn suspicious(
    opened: &Opened,
    import: &mut Import,
    bytes: &[u8],
    held: &Held,
) -> Result<BTreeMap<u64, Vec<Suspicion>>, Failure> {
    let mut sheet = Sheet::open(bytes, &opened.loaded.settings);
    let (mut candidates, mut lines, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let rows = sheet.next(BATCH);
        if rows.is_empty() {
            break;
        }
        let rows: Vec<_> = rows.into_iter().filter(|row| held.same(&row.cells).is_none()).collect();
        let places: Vec<u64> = rows.iter().map(|row| row.line).collect();
        let cells: Vec<Vec<Given>> = rows.into_iter().map(|row| row.cells).collect();
        for (imported, line) in import.look(&cells).await?.iter().zip(places) {
            if imported.verdict != Verdict::Unchanged {
                candidates.push(candidate(opened, imported));
                lines.push(line);
                let of = |place: usize| imported.new[place].clone().unwrap_or_default();
                owners.push((of(ACCOUNT), of(EXTERNAL_REF)));
            }
        }
    }
    let asked: Vec<usize> = (0..candidates.len()).filter(|place| candidates[*place].key.is_some()).collect();
    let mut elsewhere = HashSet::new();
    for places in asked.chunks(KEYS) {
        let key = |place: &usize| {
            let (account, external_ref) = &owners[*place];
            (account.as_str(), external_ref.as_str(), candidates[*place].key.as_deref().unwrap_or_default())
        };
        let keys: Vec<_> = places.iter().map(key).collect();
        elsewhere.extend(import.elsewhere(&keys).await?.into_iter().filter_map(|at| places.get(at).copied()));
    }
    for place in elsewhere {
        candidates[place].key_elsewhere = true;
    }
    let weighed = weigh(&candidates, opened.now);
    Ok(lines.into_iter().zip(weighed).filter(|(_, found)| !found.is_empty()).collect())
}

fn candidate(opened: &Opened, imported: &Imported) -> Candidate {
    let changes = |columns: &[&str]| match &imported.verdict {
        Verdict::New => true,
        Verdict::Unchanged => false,
        Verdict::Changed(changes) => changes.iter().any(|change| columns.contains(&change.column)),
    };
    let priced = changes(&PRICES);
    let mut of_plan = imported.new.clone();
    of_plan[AMOUNT] = None;
    Candidate {
        plan: imported.new[PLAN].clone().unwrap_or_default(),
        amount: cost_of(opened, &imported.new).filter(|_| priced),
        of_plan: cost_of(opened, &of_plan).filter(|_| priced),
        key: imported.new[CUSTOMER_UID].clone().filter(|_| changes(&["customer_uid"])),
        key_elsewhere: false,
        first_due: first_due(opened, imported),
    }
}

/// When a new row is charged for the first time, by the function that opens periods.
fn first_due(opened: &Opened, imported: &Imported) -> Option<jiff::Timestamp> {
    if imported.verdict != Verdict::New {
        return None;
    }
    let (catalog, terms) = (&opened.catalog, terms_of(&imported.new)?);
    let progress = seen(catalog, &terms, Progress::default(), opened.now, false, opened.now).ok()?;
    match next_period(catalog, &terms, &progress).ok()? {
        Next::Period(next, _) => Some(next.due_at),
        Next::Paused | Next::Ended { .. } => None,
    }
}

/// For people.
pub fn told(suspicion: &Suspicion, opened: &Opened, account: &str) -> String {
    let at = |at: &jiff::Timestamp| local(*at, &opened.zone(account));
    match suspicion {
        Suspicion::FarFromPlan { amount, of_plan } => format!("costs {amount}, the plan {of_plan}"),
        Suspicion::FarFromMedian { amount, median } => format!("costs {amount}, half of the plan's rows {median} or less"),
        Suspicion::KeyElsewhere => "another subscription has its billing key".to_owned(),
        Suspicion::KeyTwice => "another row has its billing key".to_owned(),
        Suspicion::AllAtOnce { together, of, .. } => format!("{together} of {of} new rows fall due first within one hour"),
        Suspicion::Soon { at: due } if *due < opened.now => "due already".to_owned(),
        Suspicion::Soon { at: due } => format!("first due within a day, {}", at(due)),
    }
}
