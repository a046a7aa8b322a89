//! `rebilld subscriptions import`: all or nothing, and the same file twice changes nothing.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::guard::{self, Held};
use super::sheet::{Problem, Row, Sheet};
use crate::cli::context::{Context, Opened, Why};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{Output, Paint, amount, colours, print_json, say};
use crate::domain::guards::{ROWS, Suspicion};
use crate::domain::money::Money;
use crate::domain::price::cost;
use crate::domain::subscription::Status;
use crate::store::desk::columns::{ACCOUNT, EXTERNAL_REF};
use crate::store::desk::{
    FieldChange, Given, HeldRow, Import, Imported, Tally, Verdict, before_hash, hash_of, hash_of_held, terms_of,
};

/// Rows in one statement.
pub(super) const BATCH: usize = 2000;
/// Changed rows that are shown one by one to people, and to machines.
const SHOWN: usize = 10;
const SHOWN_JSON: usize = 1000;
/// Why a row that was held before has to be looked at again.
const OVERTAKEN: &str = "its subscription has changed since it was held first";

#[derive(Debug, clap::Args)]
pub struct ImportFile {
    /// A CSV file whose header names columns of the table `subscriptions`
    file: PathBuf,
    /// Says what would change, and changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Imports rows that look wrong too, if exactly those have this hash: `--dry-run` shows it
    #[arg(long, value_name = "HASH")]
    confirm: Option<String>,
    /// Why, for the journal
    #[arg(long, default_value = "import", value_name = "TEXT")]
    reason: String,
    /// Who, if it is not the user of this machine who runs the command
    #[arg(long = "as", value_name = "NAME")]
    by: Option<String>,
}

/// What an import comes to.
#[derive(Debug, Default)]
struct Summary {
    new: u64,
    changed: u64,
    unchanged: u64,
    /// Rows that look wrong: held now or before, and not imported.
    held: u64,
    /// Rows that an operator has rejected: left out.
    rejected: u64,
    /// Of those that look wrong, whether they are held or were confirmed.
    hash: Option<String>,
    /// How often each reason was found.
    reasons: BTreeMap<String, u64>,
    held_examples: Vec<(u64, String, Vec<String>)>,
    /// Rows whose first period began in the past.
    past: u64,
    /// How often each column changes.
    columns: BTreeMap<&'static str, u64>,
    examples: Vec<(String, String, Vec<FieldChange>)>,
    /// What a period costs, by currency.
    money: BTreeMap<String, Effect>,
}

/// Minor units a period, at today's prices.
#[derive(Debug, Default)]
struct Effect {
    new: i128,
    before: i128,
    after: i128,
}

impl ImportFile {
    /// As if it had been given on the command line.
    pub fn of(file: PathBuf, reason: &str) -> Self {
        Self { file, dry_run: false, confirm: None, reason: reason.to_owned(), by: None }
    }

    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        // whoever sends files by cron and looks at exit codes alone has to hear of it: nobody is charged by a row that is held
        self.import(context).await?.map_or(Ok(()), |held| Err(Failure::new(Code::TryLater, held)))
    }

    /// What is left to do, if rows are held now.
    pub async fn import(self, context: &Context) -> Result<Option<String>, Failure> {
        let file = self.file.display().to_string();
        let bytes = std::fs::read(&self.file).map_err(|error| Failure::data(format!("{file} cannot be read: {error}")))?;
        let signed = context.signed(&Why { reason: self.reason.clone(), by: self.by.clone() })?;
        let opened = context.open().await?;
        let bar = bar(context, bytes.len() as u64 * 2);

        // first without the database: a bad file never takes a lock
        let mut sheet = Sheet::open(&bytes, &opened.loaded.settings);
        while !sheet.next(BATCH).is_empty() {
            bar.set_position(sheet.position());
        }
        refuse(&sheet, &file, context)?;

        let today = opened.now.to_zoned(opened.zone("")).date().to_string();
        let accounts: Vec<String> = opened.loaded.settings.accounts.keys().cloned().collect();
        let mut import = opened.database.desk().import(opened.now, &accounts).await?;
        let held = Held::of(import.held().await?);
        // most files are small, and what is one by one is looked at by whoever writes it
        let many = sheet.rows > ROWS as u64;
        let suspicious = match many {
            true => guard::suspicious(&opened, &mut import, &bytes, &held).await?,
            false => BTreeMap::new(),
        };
        let mut sheet = Sheet::open(&bytes, &opened.loaded.settings);
        let mut summary = Summary::default();
        let (mut aside, mut released): (Vec<HeldRow>, Vec<Vec<Given>>) = (Vec::new(), Vec::new());
        let mut news = 0;
        loop {
            let rows = sheet.next(BATCH);
            if rows.is_empty() {
                break;
            }
            let mut passing = Vec::with_capacity(rows.len());
            for row in rows {
                let mut before_hash = None;
                let reasons = match (held.same(&row.cells), suspicious.get(&row.line)) {
                    // a few rows are taken as they are, whatever somebody has said of them before
                    (Some(same), _) if same.rejected_at.is_some() && many => {
                        summary.rejected += 1;
                        continue;
                    }
                    (Some(same), _) if same.rejected_at.is_none() => {
                        let mut reasons = same.reasons.clone();
                        if same.overtaken {
                            news += 1;
                            reasons.retain(|reason| reason != OVERTAKEN);
                            reasons.push(OVERTAKEN.to_owned());
                        } else {
                            before_hash.clone_from(&same.before_hash);
                        }
                        reasons
                    }
                    (_, Some(found)) => {
                        news += 1;
                        found.iter().map(|one| guard::told(one, &opened, guard::text(&row.cells[ACCOUNT]))).collect()
                    }
                    (_, None) => {
                        released.extend(held.get(&row.cells).map(|_| row.cells.clone()));
                        passing.push(row);
                        continue;
                    }
                };
                found(&mut summary, suspicious.get(&row.line).map(Vec::as_slice).unwrap_or_default());
                let line = i64::try_from(row.line).unwrap_or(i64::MAX);
                aside.push(HeldRow {
                    import_id: String::new(),
                    file: file.clone(),
                    line,
                    account: guard::text(&row.cells[ACCOUNT]).to_owned(),
                    external_ref: guard::text(&row.cells[EXTERNAL_REF]).to_owned(),
                    row_hash: hash_of(std::iter::once(row.cells.as_slice())),
                    before_hash,
                    overtaken: false,
                    cells: row.cells,
                    reasons,
                    who: signed.who.clone(),
                    held_at: opened.now,
                    rejected_at: None,
                });
            }
            take(&mut import, passing, &opened, &mut sheet, &mut summary, (&file, &today)).await?;
            bar.set_position(bytes.len() as u64 + sheet.position());
        }
        bar.finish_and_clear();
        let mut new = Vec::with_capacity(aside.len());
        for rows in aside.chunks_mut(BATCH) {
            let cells: Vec<Vec<Given>> = rows.iter().map(|row| row.cells.clone()).collect();
            for (row, looked) in rows.iter_mut().zip(import.look(&cells).await?) {
                row.before_hash.get_or_insert_with(|| before_hash(looked.old.as_deref()));
                new.push(looked.verdict == Verdict::New);
            }
        }
        let hash = hash_of_held(&aside);
        let confirmed = self.confirmed(&hash, !aside.is_empty(), &file)?;
        if confirmed {
            released.extend(aside.iter().map(|row| row.cells.clone()));
            for rows in aside.chunks(BATCH) {
                let rows = rows.iter().map(|row| Row { line: row.line.unsigned_abs(), cells: row.cells.clone() }).collect();
                take(&mut import, rows, &opened, &mut sheet, &mut summary, (&file, &today)).await?;
            }
        } else {
            summary.held = aside.len() as u64;
            // what could not be imported is not held either
            for (row, _) in aside.iter().zip(new).filter(|(_, new)| *new) {
                lacks(&mut sheet, row.line.unsigned_abs(), &row.cells);
            }
            let told =
                |row: &HeldRow| (row.line.unsigned_abs(), format!("{}/{}", row.account, row.external_ref), row.reasons.clone());
            summary.held_examples = aside.iter().take(SHOWN_JSON).map(told).collect();
            if news > 0 || !aside.is_empty() && !held.is_group(&hash) {
                // those that were held before stay with these: one hash for what was shown together, which is the one that confirms it
                aside.iter_mut().for_each(|row| row.import_id.clone_from(&hash));
                import.hold(&aside).await?;
            }
        }
        summary.hash = (!aside.is_empty()).then_some(hash);
        import.let_go(&released).await?;
        refuse(&sheet, &file, context)?;
        if !self.dry_run {
            let tally = Tally {
                file: &file,
                new: summary.new,
                changed: summary.changed,
                unchanged: summary.unchanged,
                held: if confirmed { 0 } else { news },
                hash: summary.hash.as_deref(),
            };
            import.commit(&signed, &tally).await?;
        }
        summary.print(&file, self.dry_run, context, &opened)?;
        Ok(summary.left(&file).filter(|_| !self.dry_run))
    }

    /// Whether the rows that look wrong are confirmed.
    fn confirmed(&self, hash: &str, any: bool, file: &str) -> Result<bool, Failure> {
        let Some(given) = &self.confirm else { return Ok(false) };
        if !any {
            return Err(Failure::data(format!(
                "nothing of {file} looks wrong any more: import it without --confirm; nothing was imported"
            )));
        }
        if given.len() >= 8 && hash.starts_with(given.as_str()) {
            return Ok(true);
        }
        Err(Failure::data(format!(
            "the rows of {file} that look wrong have the hash {hash}, not {given}: look at them with --dry-run; nothing was imported"
        )))
    }
}

/// Writes rows that may be written.
async fn take(
    import: &mut Import,
    rows: Vec<Row>,
    opened: &Opened,
    sheet: &mut Sheet<'_>,
    summary: &mut Summary,
    (file, today): (&str, &str),
) -> Result<(), Failure> {
    let Some((first, last)) = rows.first().zip(rows.last()).map(|(first, last)| (first.line, last.line)) else { return Ok(()) };
    let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
    let cells: Vec<Vec<Given>> = rows.into_iter().map(|row| row.cells).collect();
    let imported = import.add(&cells).await.map_err(|fault| {
        let mut failure = Failure::from(fault);
        failure.text = format!("{file}, lines {first} to {last}: {failure}; nothing was imported");
        failure
    })?;
    for ((cells, imported), line) in cells.iter().zip(imported).zip(lines) {
        summary.weigh(opened, &imported);
        let verdict = imported.verdict;
        if verdict == Verdict::New {
            lacks(sheet, line, cells);
        }
        summary.past += u64::from(verdict == Verdict::New && Sheet::starts_before(cells, today));
        summary.count(cells, verdict);
    }
    Ok(())
}

/// A new row may need a column that the file does not have.
fn lacks(sheet: &mut Sheet<'_>, line: u64, cells: &[Given]) {
    if let Some(column) = sheet.lacks(cells) {
        sheet.problems.add(line, Some(column), "a new subscription needs it, and its plan has none: add the column");
    }
}

fn found(summary: &mut Summary, suspicions: &[Suspicion]) {
    for suspicion in suspicions {
        *summary.reasons.entry(suspicion.name().to_owned()).or_default() += 1;
    }
}

/// What a period of an active row costs today, by the function that charges.
pub(super) fn cost_of(opened: &Opened, values: &[Option<String>]) -> Option<Money> {
    let catalog = &opened.catalog;
    let terms = terms_of(values).filter(|terms| terms.status == Status::Active)?;
    let (plan, account) = (catalog.plan(&terms).ok()?, catalog.accounts.get(&terms.account));
    let today = opened.now.to_zoned(catalog.zone(&terms).ok()?).date();
    cost(plan, &terms, account, today.max(terms.anchor), std::iter::empty()).ok().map(|cost| cost.amount)
}

/// Fails if anything is wrong with the file.
fn refuse(sheet: &Sheet<'_>, file: &str, context: &Context) -> Result<(), Failure> {
    if sheet.problems.count == 0 {
        return Ok(());
    }
    if context.output == Output::Json {
        let error = |problem: &Problem| json!({ "line": problem.line, "column": problem.column, "error": problem.text });
        let errors: Vec<_> = sheet.problems.told.iter().map(error).collect();
        print_json(&json!({ "file": file, "imported": false, "errors": errors, "error_count": sheet.problems.count }))?;
    }
    Err(Failure::data(sheet.problems.text(file)))
}

fn bar(context: &Context, length: u64) -> ProgressBar {
    if context.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

impl Summary {
    /// Adds what a period of an active row costs, by the function that charges.
    fn weigh(&mut self, opened: &Opened, imported: &Imported) {
        let cost_of = |values: &[Option<String>]| {
            let cost = cost_of(opened, values)?;
            Some((cost.currency().code().to_owned(), i128::from(cost.minor())))
        };
        if imported.verdict == Verdict::Unchanged {
            return;
        }
        if let Some((currency, minor)) = cost_of(&imported.new) {
            let effect = self.money.entry(currency).or_default();
            *if imported.verdict == Verdict::New { &mut effect.new } else { &mut effect.after } += minor;
        }
        if let Some((currency, minor)) = imported.old.as_ref().and_then(|old| cost_of(old)) {
            self.money.entry(currency).or_default().before += minor;
        }
    }

    fn count(&mut self, cells: &[Given], verdict: Verdict) {
        match verdict {
            Verdict::New => self.new += 1,
            Verdict::Unchanged => self.unchanged += 1,
            Verdict::Changed(changes) => {
                self.changed += 1;
                for change in &changes {
                    *self.columns.entry(change.column).or_default() += 1;
                }
                if self.examples.len() < SHOWN_JSON {
                    let text = |place: usize| match &cells[place] {
                        Given::Value(text) => text.clone(),
                        Given::Not | Given::Empty => String::new(),
                    };
                    self.examples.push((text(ACCOUNT), text(EXTERNAL_REF), changes));
                }
            }
        }
    }

    fn print(&self, file: &str, dry_run: bool, context: &Context, opened: &Opened) -> Result<(), Failure> {
        if context.output == Output::Json {
            let change = |change: &FieldChange| json!({ "column": change.column, "old": change.old, "new": change.new });
            let changes = self.examples.iter().map(|(account, reference, changes)| {
                json!({ "account": account, "external_ref": reference, "fields": changes.iter().map(change).collect::<Vec<_>>() })
            });
            let whole = |sum: i128| i64::try_from(sum).unwrap_or(i64::MAX);
            let money = self.money.iter().map(|(currency, Effect { new, before, after })| {
                let [new, before, after] = [new, before, after].map(|sum| whole(*sum));
                json!({ "currency": currency, "new": new, "changed_before": before, "changed_after": after })
            });
            return print_json(&json!({
                "file": file,
                "imported": !dry_run,
                "new": self.new,
                "changed": self.changed,
                "unchanged": self.unchanged,
                "starting_in_the_past": self.past,
                "money": money.collect::<Vec<_>>(),
                "held": self.held,
                "rejected": self.rejected,
                "held_hash": self.hash,
                "held_reasons": self.reasons,
                "held_rows": self.held_examples.iter().map(|(line, row, reasons)| {
                    json!({ "line": line, "subscription": row, "reasons": reasons })
                }).collect::<Vec<_>>(),
                "changed_columns": self.columns,
                "changes": changes.collect::<Vec<_>>(),
                "errors": [],
            }));
        }
        if context.quiet {
            return Ok(());
        }
        let paint = Paint(colours());
        let head = if dry_run { "would import" } else { "imported" };
        say(&paint.bold(&format!("{head} {file} into {}", opened.loaded.settings.database.url)))?;
        let would = |one: &str, other: &str| if dry_run { other.to_owned() } else { one.to_owned() };
        say(&format!("  {:>9} {}", self.new, would("new", "would be new")))?;
        say(&format!("  {:>9} {}", self.changed, would("changed", "would change")))?;
        for (column, count) in &self.columns {
            say(&paint.dim(&format!("            {count:>7} {column}")))?;
        }
        for (account, reference, changes) in self.examples.iter().take(SHOWN) {
            say(&format!("            {account}/{reference}: {}", told(changes)))?;
        }
        if self.changed > SHOWN as u64 {
            say(&paint.dim(&format!("            … and {} more (--output json has them)", self.changed - SHOWN as u64)))?;
        }
        say(&format!("  {:>9} unchanged", self.unchanged))?;
        for (currency, Effect { new, before, after }) in &self.money {
            let shown = |sum: &i128| amount(i64::try_from(*sum).unwrap_or(i64::MAX), currency);
            if *new > 0 {
                say(&format!("  a period of the new ones costs {} together", shown(new)))?;
            }
            if before != after {
                say(&format!("  a period of the changed ones costs {} instead of {}", shown(after), shown(before)))?;
            }
        }
        if self.past > 0 {
            say(&paint.unsure(&format!(
                "  {:>9} of the new ones start in the past: every period since their starts_on will be charged",
                self.past
            )))?;
        }
        if self.rejected > 0 {
            say(&format!("  {:>9} left out: they were rejected before (`rebilld imports reject`)", self.rejected))?;
        }
        self.print_held(file, dry_run, &paint)?;
        if dry_run { say("nothing was written (--dry-run)") } else { Ok(()) }
    }

    /// What an operator has to do with the rows that are held, in one line.
    fn left(&self, file: &str) -> Option<String> {
        let hash = self.hash.as_ref().filter(|_| self.held > 0)?;
        let rows = if self.held == 1 { "1 row looks wrong, and is" } else { &format!("{} rows look wrong, and are", self.held) };
        Some(format!(
            "{file}: {rows} held and not imported (`rebilld imports list`); if they are right: rebilld imports confirm {hash} \
             --reason …; if not: rebilld imports reject {hash} --reason …"
        ))
    }

    fn print_held(&self, file: &str, dry_run: bool, paint: &Paint) -> Result<(), Failure> {
        let (Some(hash), true) = (&self.hash, self.held > 0) else { return Ok(()) };
        let word = if dry_run { "would be held" } else { "held" };
        say(&paint.unsure(&format!("  {:>9} {word} and not imported: they look wrong", self.held)))?;
        for (line, row, reasons) in self.held_examples.iter().take(SHOWN) {
            say(&format!("            line {line}, {row}: {}", reasons.join("; ")))?;
        }
        if self.held > SHOWN as u64 {
            say(&paint.dim(&format!("            … and {} more (--output json has them)", self.held - SHOWN as u64)))?;
        }
        // what to do with those that are held is told last, as the failure that it is
        if !dry_run {
            return Ok(());
        }
        say(&format!("if they are right: rebilld subscriptions import {file} --confirm {hash}"))
    }
}

/// `amount 9900 → 12900, status active → paused`.
pub fn told(changes: &[FieldChange]) -> String {
    let plain = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let one = |change: &FieldChange| format!("{} {} → {}", change.column, plain(&change.old), plain(&change.new));
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
