//! `rebilld explain`: why a subscription was charged, was not, and what happens next, rule by rule.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::brakes::outside;
use super::charges::words;
use super::context::{Context, Opened, zone_of};
use super::failure::Failure;
use super::output::{Listing, Output, Paint, amount, colours, field, print_json, say};
use super::subscriptions::find;
use super::subscriptions::states::{Shown, next_words, state_words, states_of};
use crate::app::ahead;
use crate::config::{Settings, Version, revive};
use crate::domain::charge::{ChargeState, Waiting};
use crate::domain::fuse::FuseState;
use crate::domain::lifecycle::{Ending, trial_end};
use crate::domain::plan::{CatchUp, Plan, WhilePastDue};
use crate::domain::subscription::Status;
use crate::engine::InForce;
use crate::engine::outlook::{Coming, End, Kind, Outlook, outlook};
use crate::ports::store::{Pending, Standing};
use crate::store::StoredVersion;
use crate::store::desk::{ChargeFilter, ChargeRow, Story};

/// Charges to come that are named.
const NAMED: usize = 3;
/// Periods that are looked through for the one in question.
const PERIODS: u32 = 500;

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// Your own reference of the subscription
    #[arg(value_name = "REF")]
    reference: String,
    /// In which account, if several have this reference
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The period that holds this instant or date instead of the newest, such as 2026-12-01
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// One rule, and what it says of this subscription.
struct Reason {
    rule: &'static str,
    says: String,
}

/// Everything that the explanation is made of.
struct Known {
    opened: Opened,
    standing: Standing,
    /// The schedule's problem, as the daemon put it.
    problem: Option<String>,
    settings: Settings,
    in_force: InForce,
    version: Option<StoredVersion>,
    zone: TimeZone,
    /// The charge in question, with its story.
    story: Option<Story>,
    /// That charge's config.
    made_under: Option<StoredVersion>,
    brakes: Vec<String>,
    unaudited: bool,
    /// PortOne's own schedule is going to charge its billing key, or may have done so.
    booked: Option<String>,
    ahead: Outlook,
    state: Option<Shown>,
    asked: Option<Timestamp>,
}

impl Explain {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let known = self.know(context).await?;
        let (verdict, reasons) = (known.verdict(), known.reasons());
        match context.output {
            Output::Json => print_json(&known.json(&verdict, &reasons)),
            Output::Csv => {
                let rows = reasons.iter().map(|reason| vec![field("rule", reason.rule), field("says", reason.says.as_str())]);
                Listing { rows: rows.collect(), none: "" }.print(Output::Csv)
            }
            Output::Table => say(&known.text(&verdict, &reasons)),
        }
    }

    async fn know(&self, context: &Context) -> Result<Known, Failure> {
        let opened = context.open().await?;
        let row = find(&opened, self.account.as_deref(), &self.reference).await?;
        let standing = opened.database.standing_of(row.id).await?;
        let standing =
            standing.ok_or_else(|| Failure::data(format!("the row of `{}` cannot be read: see the log", self.reference)))?;
        let version = opened.database.config_in_force().await?;
        let revived = version.as_ref().and_then(|version| revive(&version.body).ok());
        let settings = revived.as_ref().unwrap_or(&opened.loaded.settings).with_rows(&opened.plans.rows);
        let in_force = ahead::in_force(&settings)?;
        let terms = &standing.schedule.terms;
        let zone = in_force.catalog.zone(terms).unwrap_or_else(|_| zone_of(&opened.loaded, &terms.account));
        let asked = self.at.as_deref().map(|text| instant_of(text, &zone)).transpose()?;
        let desk = opened.database.desk();
        let charge = {
            let (account, external_ref) =
                (Some(standing.schedule.terms.account.clone()), Some(standing.schedule.terms.external_ref.clone()));
            let limit = if asked.is_some() { PERIODS } else { 1 };
            let rows = desk.charges(&ChargeFilter { account, external_ref, limit, ..ChargeFilter::default() }).await?;
            let day = asked.map(|at| at.to_zoned(zone.clone()).date());
            rows.into_iter().find(|row| day.is_none_or(|day| row.period_start <= day && day < row.period_end))
        };
        let made_under = match charge.as_ref().and_then(|charge| charge.config_version) {
            Some(id) => opened.database.config_version(id).await?,
            None => None,
        };
        let story = match charge {
            Some(charge) => Some(desk.story(charge).await?),
            None => None,
        };
        let account = desk.accounts().await?.into_iter().find(|row| row.name == standing.schedule.terms.account);
        let booked = desk.booking_of(row.id).await?.map(|booked| words::bookings(&booked, opened.now, &zone));
        let (mut brakes, mut unaudited) = (Vec::new(), false);
        let because = |why: &Option<String>| why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        if let Some(status) = desk.status().await? {
            brakes.extend(status.killed.then(|| format!("the kill switch is on{}", because(&status.kill_reason))));
            brakes.extend(status.held.then(|| format!("the database is held{}", because(&status.hold_reason))));
        }
        if let Some(account) = account {
            brakes.extend(account.killed.then(|| format!("the account's kill switch is on{}", because(&account.kill_reason))));
            brakes.extend(account.held.then(|| format!("the account is held{}", because(&account.hold_reason))));
            brakes.extend(account.paused.then(|| format!("the account is paused{}", because(&account.pause_reason))));
            brakes.extend(match account.fuse {
                Some(FuseState::Blown) => Some(format!("the account's fuse has blown{}", because(&account.fuse_why))),
                Some(FuseState::Rejected) => Some(format!("an operator keeps the account stopped{}", because(&account.fuse_why))),
                Some(FuseState::Approved) => {
                    Some("only the charges of an approved wave are sent (`rebilld wave show`)".to_owned())
                }
                None => None,
            });
            let arm = || format!("the account is not armed in this database (`rebilld arm --account {}`)", account.name);
            brakes.extend((!account.armed).then(arm));
            unaudited = !account.audited;
        }
        let own = format!("account {}", standing.schedule.terms.account);
        let outside = outside(&opened, &opened.database.daemons().await?).into_iter();
        brakes.extend(outside.filter_map(|(what, why)| match what.as_str() {
            what if what.starts_with("daemon ") => Some(format!("{what} is stopped ({why})")),
            what => (what == "database" || what == own).then_some(why),
        }));
        let far = opened.now.checked_add(jiff::SignedDuration::from_hours(24 * 366 * 10)).unwrap_or(Timestamp::MAX);
        let ahead = outlook(&standing, &in_force, opened.now, far);
        let problem = row.problem.clone();
        let state = states_of(&opened, &[row.id]).await?.remove(&row.id);
        Ok(Known {
            opened,
            standing,
            problem,
            settings,
            in_force,
            version,
            zone,
            story,
            made_under,
            brakes,
            unaudited,
            booked,
            ahead,
            state,
            asked,
        })
    }
}

/// `2026-12-01`, or an instant.
fn instant_of(text: &str, zone: &TimeZone) -> Result<Timestamp, Failure> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let day = text.parse::<jiff::civil::Date>().ok().and_then(|day| day.to_zoned(zone.clone()).ok());
    day.map(|day| day.timestamp())
        .ok_or_else(|| Failure::data(format!("--at {text}: write a date (2026-12-01) or an instant (2026-12-01T01:00:00Z)")))
}

impl Known {
    fn plan(&self) -> Option<&Plan> {
        self.in_force.catalog.plan(&self.standing.schedule.terms).ok()
    }

    fn at(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%a %-d %b %Y %H:%M %Z").to_string()
    }

    fn when(&self, at: Timestamp) -> String {
        if at <= self.opened.now { "now".to_owned() } else { format!("on {}", self.at(at)) }
    }

    /// The first charge that is still to come.
    fn next(&self) -> Option<&Coming> {
        self.ahead.charges.iter().min_by_key(|coming| coming.at)
    }

    /// The first charge that nothing is sent for, because the billing key was refused for good, if it comes before all others.
    fn stopped(&self) -> Option<&Coming> {
        let first = self.ahead.without_card.iter().min_by_key(|coming| coming.at)?;
        self.next().is_none_or(|next| first.at <= next.at).then_some(first)
    }

    /// The answer in one sentence.
    fn verdict(&self) -> String {
        if let Some(stopped) = self.stopped() {
            let otherwise = self
                .next()
                .map_or_else(String::new, |next| format!("; without one, {} is charged {}", next.amount, self.when(next.at)));
            return format!(
                "{} for {} waits for a new billing key, because the card company refused this one for good{otherwise}.",
                stopped.amount, stopped.period.start
            );
        }
        match (&self.ahead.end, self.next()) {
            (_, Some(next)) if !self.brakes.is_empty() => {
                format!("{} is due {}, and nothing is sent at the moment: {}.", next.amount, self.when(next.at), self.brakes[0])
            }
            (_, Some(next)) if self.booked.is_some() => format!(
                "{} is due {}, and is not charged from here: PortOne's own schedule is going to charge its billing key.",
                next.amount,
                self.when(next.at)
            ),
            (_, Some(next)) => {
                let again = if next.kind == Kind::Retry { " again, after a decline" } else { "" };
                format!("{} is charged {}{again}.", next.amount, self.when(next.at))
            }
            (End::Paused, None) => "It is paused: nothing is charged, and the days of the pause never will be.".to_owned(),
            (End::Ended(Ending::Cancelled), None) => "It is cancelled: nothing is charged any more.".to_owned(),
            (End::Ended(why), None) => format!("It has ended ({}): nothing is charged any more.", why.name()),
            (End::Missed(count), None) => {
                format!("{count} periods were missed: nothing is charged until `rebilld catch-up` opens or skips them.")
            }
            (End::InReview, None) => "Nothing is charged until a person has ruled on the charge in review.".to_owned(),
            (End::Problem(problem), None) => format!("It cannot be charged: {problem}."),
            (End::Horizon, None) => "Nothing falls due within ten years.".to_owned(),
        }
    }

    fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut add = |rule, says: String| reasons.push(Reason { rule, says });
        if let Some(story) = &self.story {
            self.of_charge(story, &mut add);
        } else if let Some(asked) = self.asked {
            add("period", self.no_period(asked));
        }
        let terms = &self.standing.schedule.terms;
        add(
            "status",
            match terms.status {
                Status::Active => "The subscription is active.".to_owned(),
                Status::Paused => {
                    "The subscription is paused: its charges wait, and no period opens until it is resumed.".to_owned()
                }
                Status::Cancelled => "The subscription is cancelled: no period opens any more.".to_owned(),
            },
        );
        if let Some(Shown { followed, since }) = &self.state {
            let since = since.map_or_else(String::new, |since| format!(" since {}", self.at(since)));
            let next_at = followed.next_at.map_or_else(String::new, |at| format!(" ({})", self.at(at)));
            let (state, why, next) = (followed.state.name(), state_words(followed.state), next_words(followed.next));
            add("state", format!("Its state is {state}{since}: {why}. Next: {next}{next_at}."));
        }
        let Some(plan) = self.plan() else {
            add(
                "plan",
                format!("There is no plan `{}` in the config: it is looked at again when there is one.", terms.coming_plan()),
            );
            return reasons;
        };
        add(
            "plan",
            format!(
                "Plan {} charges {}, counted from {}.",
                plan.name,
                plan.recurrence,
                self.standing.schedule.progress.anchor.unwrap_or(terms.anchor)
            ),
        );
        self.of_terms(plan, &mut add);
        let own = |given: bool| if given { "its own" } else { "the plan's" };
        let time = terms.charge_time.clone().unwrap_or_else(|| plan.charge_time.strftime("%H:%M").to_string());
        let zone = self.zone.iana_name().unwrap_or("its zone").to_owned();
        add("time", format!("It falls due at {time} ({}) in {zone}.", own(terms.charge_time.is_some())));
        if terms.status == Status::Active {
            add(
                "next period",
                match (self.standing.schedule.progress.opened_until, self.standing.schedule.progress.first_day(terms)) {
                    (Some(until), Some(from)) if from > until => {
                        format!(
                            "Periods before {from} are not charged for; the next one starts on the first boundary from there."
                        )
                    }
                    (Some(until), _) => format!("The last opened period ends on {until}, and the next one starts there."),
                    (None, Some(from)) => {
                        format!("It has never been billed here; the first period starts on the first boundary from {from}.")
                    }
                    (None, None) => "It has never been billed here, and will be looked at in a moment.".to_owned(),
                },
            );
        }
        for pending in &self.standing.pending {
            add("unresolved", self.pending(pending, plan));
        }
        if self.stopped().is_some() {
            add(
                "card",
                "Its billing key was refused for good, so nothing is sent to it; a new one (`rebilld subscriptions set REF --customer-uid …`) \
                 is charged at once."
                    .to_owned(),
            );
        }
        if let Some(problem) = &self.problem {
            add("problem", format!("The daemon has set it aside: {problem}."));
        }
        for brake in &self.brakes {
            add("brake", format!("{}: nothing is sent until that ends (`rebilld hold status`).", capital(brake)));
        }
        if self.brakes.is_empty() && terms.status == Status::Active {
            add("brake", "No kill switch, no hold, no pause and no blown fuse of the account is in the way.".to_owned());
        }
        if let Some(booked) = &self.booked {
            add("takeover", format!("{booked}."));
        }
        if self.unaudited {
            add("audit", "The account has had no complete audit yet: the daemon makes one before its first charge.".to_owned());
        }
        let budget = self.settings.accounts.get(&terms.account).map(|account| (account.budget_count, account.budget_sum));
        if let Some((count, sum)) = budget.filter(|(count, sum)| count.is_some() || sum.is_some()) {
            let count = count.map(|count| format!("{count} new attempts"));
            let sum = sum.map(|sum| format!("{sum} in minor units"));
            let most: Vec<String> = [count, sum].into_iter().flatten().collect();
            add(
                "budget",
                format!(
                    "Account {} tries {} a day at most; what is over waits for the next day.",
                    terms.account,
                    most.join(" and ")
                ),
            );
        }
        reasons
    }

    /// What the row and the plan say beyond the price list.
    fn of_terms(&self, plan: &Plan, add: &mut impl FnMut(&'static str, String)) {
        let terms = &self.standing.schedule.terms;
        let currency = terms.currency.clone().unwrap_or_else(|| plan.currency.code().to_owned());
        if let Some(next) = &terms.next_plan {
            add("plan", format!("It changes from plan {} to {next} when the next period opens.", terms.plan));
        }
        let period = self.ahead.charges.iter().find(|coming| coming.kind == Kind::Period);
        match period {
            Some(coming) => {
                add("amount", format!("The next period costs {}; it is frozen when the period opens.", coming.amount))
            }
            None if terms.amount.or(plan.amount).is_none() => {
                add("amount", "Neither the subscription nor its plan has an amount.".to_owned())
            }
            None => {}
        }
        let own = if terms.amount.is_some() { "its own" } else { "the plan's" };
        if let Some(minor) = terms.amount.or(plan.amount) {
            let times = if terms.quantity > 1 { format!(", times {}", terms.quantity) } else { String::new() };
            add("amount", format!("The price is {} ({own}){times}.", amount(minor, &currency)));
        }
        let dated = if terms.prices.is_empty() && terms.amount.is_none() { &plan.prices } else { &terms.prices };
        for price in dated {
            add("dated price", format!("{} for periods from {} on.", amount(price.amount, &currency), price.from));
        }
        for adjustment in &terms.adjustments {
            let word = if adjustment.amount < 0 { "discount" } else { "surcharge" };
            add(
                "adjustment",
                format!(
                    "A {word} of {} is taken by the next charge, once.",
                    amount(adjustment.amount.saturating_abs(), &currency)
                ),
            );
        }
        if self.standing.schedule.progress.opened_until.is_none()
            && let Some(end) = trial_end(plan, terms)
        {
            add("trial", format!("Its trial ends on {end}; nothing before it is charged."));
        }
        if let Some(day) = terms.ends_on {
            add("end", format!("No period starts on {day} or later."));
        }
        if let Some(most) = terms.max_periods.or(plan.max_periods) {
            add("end", format!("{} of {most} periods have been opened.", self.standing.schedule.progress.periods));
        }
        if terms.cancel_at_period_end {
            add("end", "It is cancelled at the end of the period that is open.".to_owned());
        }
        if let End::Missed(count) = self.ahead.end {
            let says = match plan.catch_up {
                CatchUp::All { most } => format!("its plan opens {most} at most by itself"),
                CatchUp::LatestOnly => "its plan charges the latest one only".to_owned(),
                CatchUp::Hold => "its plan holds them for an operator".to_owned(),
            };
            add("catch-up", format!("{count} periods were missed: {says} (`rebilld catch-up`)."));
        }
        let windows = &self.in_force.tuning.windows;
        if !windows.is_always() {
            let blackouts: Vec<String> = windows.blackouts.iter().map(|blackout| blackout.hours.to_string()).collect();
            let but = if blackouts.is_empty() { String::new() } else { format!(", and not {}", blackouts.join(" or ")) };
            add("window", format!("Charges start within {}{but}; what is due at another time waits.", windows.hours));
        }
    }

    /// What became of the charge in question.
    fn of_charge(&self, story: &Story, add: &mut impl FnMut(&'static str, String)) {
        let charge = &story.charge;
        let of = format!("{} for {} to {}", amount(charge.amount, &charge.currency), charge.period_start, charge.period_end);
        add(
            "charge",
            match charge.state {
                ChargeState::Paid if charge.refunded => format!("{of} was paid, and refunded at the gateway."),
                ChargeState::Paid => {
                    format!("{of} was paid {}.", charge.paid_at.map_or_else(String::new, |at| format!("on {}", self.at(at))))
                }
                ChargeState::Unpaid => format!("{of} was not paid, and is closed."),
                ChargeState::Void => format!("{of} is void: nothing is owed for it."),
                ChargeState::Due => format!("{of} is open; it fell due on {}.", self.at(charge.due_at)),
                ChargeState::Doubt => format!("{of} may have been paid: it is looked up and never sent meanwhile."),
                ChargeState::Review => format!("{of} is in review: a person decides (`rebilld review rule {}`).", charge.id),
            },
        );
        add(
            "made under",
            match (&self.made_under, charge.config_version) {
                (Some(version), _) => format!(
                    "Config {} ({}), in force since {}.",
                    version.id,
                    Version::short(&version.hash),
                    self.at(version.loaded_at)
                ),
                (None, _) => "It is older than the numbering of configs.".to_owned(),
            },
        );
        for seen in &story.observations {
            let Some(rule) = &seen.rule else { continue };
            let text = seen.detail.get("fail_reason").and_then(Value::as_str);
            let text = text.map_or_else(String::new, |text| format!(" ({text})"));
            add("decided", format!("{}: {}{text}. Rule: {rule}.", self.at(seen.at), words::observation(&seen.source)));
        }
    }

    /// Why there is no charge for an instant.
    fn no_period(&self, asked: Timestamp) -> String {
        let day = asked.to_zoned(self.zone.clone()).date();
        let coming = self.ahead.charges.iter().find(|coming| coming.period.start <= day && day < coming.period.end);
        if let Some(coming) = coming {
            return format!(
                "The period {} to {} has not opened yet: {} falls due on {}.",
                coming.period.start,
                coming.period.end,
                coming.amount,
                self.at(coming.due_at)
            );
        }
        let first = self.standing.schedule.progress.first_day(&self.standing.schedule.terms);
        match first.filter(|first| day < *first) {
            Some(first) => format!(
                "No charge covers {day}: periods before {first} are not charged for (where rebilld took over, or a pause)."
            ),
            None => format!("No charge covers {day}."),
        }
    }

    fn pending(&self, pending: &Pending, plan: &Plan) -> String {
        let holds = plan.while_past_due == WhilePastDue::Hold;
        let next = if holds {
            "The next period waits for it (while_past_due = \"hold\")."
        } else {
            "The next period opens all the same (while_past_due = \"continue\")."
        };
        let at = pending.next_at.map_or_else(|| "when something changes".to_owned(), |at| self.when(at));
        let what = match (pending.state, pending.waiting) {
            (ChargeState::Doubt, _) => format!("it may have been paid; the gateway is asked {at}"),
            (ChargeState::Review, _) => "a person decides".to_owned(),
            (_, Waiting::Card) => format!("its card was refused for good; it waits for a new one, and is given up {at}"),
            (_, Waiting::Retry) => {
                let times = if pending.tries == 1 { "once".to_owned() } else { format!("{} times", pending.tries) };
                format!("it was declined {times} and is tried again {at}")
            }
            (_, waiting) => format!("it waits for {}, and is sent {at}", words::waiting(waiting)),
        };
        format!("{} for {} is not paid yet: {what}. {next}", pending.amount, pending.period.start)
    }

    fn json(&self, verdict: &str, reasons: &[Reason]) -> Value {
        let terms = &self.standing.schedule.terms;
        let version = |version: &Option<StoredVersion>| {
            version.as_ref().map(|version| json!({ "version": version.id, "hash": version.hash }))
        };
        let charge = |charge: &ChargeRow| {
            json!({
                "id": charge.id, "period_start": charge.period_start, "period_end": charge.period_end, "state": charge.state.name(),
                "waiting": charge.waiting.name(), "amount": charge.amount, "currency": charge.currency, "due_at": charge.due_at,
                "next_at": charge.next_at, "paid_at": charge.paid_at, "tries": charge.tries, "config": version(&self.made_under),
            })
        };
        let coming = |coming: &Coming| {
            json!({
                "period_start": coming.period.start, "period_end": coming.period.end, "due_at": coming.due_at, "at": coming.at,
                "amount": coming.amount.minor(), "currency": coming.amount.currency().code(),
                "kind": match coming.kind { Kind::Period => "period", Kind::Opened => "opened", Kind::Retry => "retry" },
            })
        };
        let state = |Shown { followed, since }: &Shown| json!({ "state": followed.state.name(), "since": since, "next_step": followed.next.name(), "next_at": followed.next_at });
        json!({
            "account": terms.account, "external_ref": terms.external_ref, "status": terms.status.name(), "plan": terms.plan,
            "state": self.state.as_ref().map(state),
            "zone": self.zone.iana_name(), "now": self.opened.now, "at": self.asked, "config": version(&self.version),
            "verdict": verdict, "charge": self.story.as_ref().map(|story| charge(&story.charge)),
            "reasons": reasons.iter().map(|reason| json!({ "rule": reason.rule, "says": reason.says })).collect::<Vec<_>>(),
            "next": self.ahead.charges.iter().take(NAMED).map(coming).collect::<Vec<_>>(),
        })
    }

    fn text(&self, verdict: &str, reasons: &[Reason]) -> String {
        let paint = Paint(colours());
        let terms = &self.standing.schedule.terms;
        let mut lines =
            vec![format!("{}  {}", paint.bold(&format!("{}/{}", terms.account, terms.external_ref)), paint.bold(verdict))];
        let config = match &self.version {
            Some(version) => format!("by config {} ({}), which is in force", version.id, Version::short(&version.hash)),
            None => "by the config file: no daemon has run with this database yet".to_owned(),
        };
        lines.push(paint.dim(&config));
        lines.push(String::new());
        let width = reasons.iter().map(|reason| reason.rule.len()).max().unwrap_or(0);
        let mut last = "";
        for reason in reasons {
            let rule = if reason.rule == last { "" } else { reason.rule };
            last = reason.rule;
            lines.push(format!("  {}  {}", paint.dim(&format!("{rule:<width$}")), reason.says));
        }
        if !self.ahead.charges.is_empty() {
            lines.push(String::new());
            lines.push(format!("  {}", paint.bold("to come")));
            for coming in self.ahead.charges.iter().take(NAMED) {
                let late = if coming.at > coming.due_at && coming.kind == Kind::Period {
                    format!(" (due {})", self.at(coming.due_at))
                } else {
                    String::new()
                };
                lines.push(format!(
                    "    {}  {} for {} to {}{late}",
                    self.at(coming.at),
                    coming.amount,
                    coming.period.start,
                    coming.period.end
                ));
            }
        }
        lines.join("\n")
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
