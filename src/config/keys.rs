//! Every key of the config: the one source for unknown-key checks, defaults and the reference.

mod checks;

use jiff::civil::Date;

pub use checks::{blackouts, shown, thousandths, time_of_day, zone};

use super::cron;
use super::span::Span;
use crate::domain::attempt::Tag;
use crate::domain::cron::CronSchedule;
use crate::domain::decline::Class;
use crate::domain::dunning::{End, Preset};
use crate::domain::holidays::Banking;
use crate::domain::money::Currency;
use crate::domain::period::Every;
use crate::domain::plan::{Resume, TrialAnchor};
use crate::domain::recurrence::BillingDay;
use crate::domain::window::Hours;

/// A key. In a path, `*` stands for a name that the operator gives, `[]` for an entry of a list.
#[derive(Debug)]
pub struct Key {
    pub path: &'static str,
    pub kind: Kind,
    pub default: Default,
    pub doc: &'static str,
}

/// What happens if a key is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This value, as TOML.
    Is(&'static str),
    /// An error.
    Required,
    /// Nothing; the words say what follows.
    None(&'static str),
}

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text of so many characters at most.
    Short(usize),
    Path,
    Integer {
        least: i64,
        most: i64,
    },
    /// A number from 0 with up to three decimals.
    Decimal {
        most: u32,
    },
    Boolean,
    Choice(&'static [&'static str]),
    Span {
        least: &'static str,
        most: &'static str,
    },
    TimeOfDay,
    Date,
    Zone,
    /// A span of every day.
    Hours,
    /// Such spans, each with its zone.
    Blackouts,
    Every,
    /// A whole number, or a text.
    BillingDay,
    /// A cron expression that comes once a day at most, in a plan's zone.
    Schedule,
    /// A cron expression of the scheduler, in UTC.
    Cron,
    Currency,
    Tag,
    Tier,
    /// A name that file names and header values can carry.
    Name,
    DatabaseUrl,
    /// `https://`, or `http://` on loopback.
    HttpUrl,
    /// Where to listen: an IP address and a port, or `off`.
    Listen,
    LogFilter,
}

const AMOUNT: Kind = Kind::Integer { least: 1, most: 1_000_000_000_000 };
const PART: Kind = Kind::Integer { least: 0, most: 1_000_000_000_000 };

const fn key(path: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { path, kind, default, doc }
}

#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("database.url", Kind::DatabaseUrl, Default::Is("\"sqlite:rebilld.db\""),
        "`sqlite:PATH`, or `postgres://USER@HOST/DATABASE`. A password in it is hidden wherever the URL is shown; \
         better, keep it out: `PGPASSFILE` and peer authentication work."),
    key("database.max_connections", Kind::Integer { least: 1, most: 1000 }, Default::Is("8"),
        "How many connections one process opens at most."),
    key("state_dir", Kind::Path, Default::None("`$STATE_DIRECTORY`, else beside the SQLite file, else the working directory"),
        "Where the high-water mark lives that tells a restored database from the one that last sent. It must not be \
         restored together with the database."),
    key("kill_file", Kind::Path, Default::None("`kill` in the state directory"),
        "While a file of this name exists, nothing is sent; one with `.NAME` behind it stops account NAME alone. What it holds \
         does not matter. A directory that cannot be looked into stops all."),
    key("tag", Kind::Tag, Default::Is("\"rb\""),
        "Two lower-case letters or digits that every `merchant_uid` begins with. A database is bound to one tag for ever; \
         use another one for the sandbox."),

    key("accounts.*.base_url", Kind::HttpUrl, Default::Is("\"https://api.iamport.kr\""),
        "Where PortOne's V1 API is. `http://` is accepted on loopback only."),
    key("accounts.*.imp_key_file", Kind::Path, Default::None("the credential"),
        "A file that holds `imp_key` and that not everybody can read."),
    key("accounts.*.imp_secret_file", Kind::Path, Default::None("the credential"),
        "A file that holds `imp_secret` and that not everybody can read."),
    key("accounts.*.imp_key_credential", Kind::Name, Default::None("`NAME-imp-key`, if systemd passes it"),
        "The systemd credential (`LoadCredential=`) that holds `imp_key`."),
    key("accounts.*.imp_secret_credential", Kind::Name, Default::None("`NAME-imp-secret`, if systemd passes it"),
        "The systemd credential (`LoadCredential=`) that holds `imp_secret`."),
    key("accounts.*.tier", Kind::Tier, Default::None("no `Tier` header"),
        "The three characters of a sub-merchant's `Tier` header."),
    key("accounts.*.include_sandbox", Kind::Boolean, Default::Is("false"),
        "Whether look-ups ask for payments of a test channel. True on a test channel, otherwise its payments look absent."),
    key("accounts.*.rate", Kind::Integer { least: 1, most: 100_000 }, Default::Is("10"),
        "Charges sent a second, at most."),
    key("accounts.*.in_flight", Kind::Integer { least: 1, most: 10_000 }, Default::Is("16"),
        "Charges that wait for an answer at the same time, at most."),
    key("accounts.*.merchant_uid", Kind::Choice(&["per_attempt", "per_period"]), Default::Is("\"per_attempt\""),
        "`per_attempt`: a failed record uses its id up. `per_period`: one id for the whole period; only where your own test \
         channel shows that a declined id may be tried again. Fixed per charge when it opens."),
    key("accounts.*.budget.count", Kind::Integer { least: 1, most: 1_000_000_000 }, Default::None("no bound"),
        "New attempts a day, at most. What is over it waits for the next day; the fuse is another brake."),
    key("accounts.*.budget.sum", AMOUNT, Default::None("no bound"),
        "Minor units (won) attempted a day and currency, at most."),
    key("accounts.*.fuse.amount", AMOUNT, Default::Is("5000000"),
        "The most that one charge may be, in minor units: 5,000,000 won by default, as far above a subscription's price as an \
         amount with three zeros too many. See docs/brakes.md for this and all keys of the fuse."),
    key("accounts.*.fuse.times", Kind::Decimal { most: 1000 }, Default::Is("5"),
        "A charge may be so many times what its subscription paid last, in proportion to its period if that is longer. A first \
         charge has no last amount."),
    key("accounts.*.fuse.times_from", PART, Default::Is("50000"),
        "Amounts up to this one are never held against the last one: a first month for 100 won is followed by the full price."),
    key("accounts.*.fuse.hour_count", Kind::Integer { least: 1, most: 1_000_000_000 }, Default::None("no bound: `day_times` holds the day"),
        "New attempts in any 60 minutes, at most."),
    key("accounts.*.fuse.hour_sum", AMOUNT, Default::None("no bound: `day_times` holds the day"),
        "Minor units (won) attempted in any 60 minutes, at most, for each currency."),
    key("accounts.*.fuse.day_times", Kind::Decimal { most: 1000 }, Default::Is("2"),
        "So many times what was expected of the account's day, in count and in sum for each currency; sign-ups and retries of the \
         day come on top of what was expected."),
    key("accounts.*.fuse.day_from", Kind::Integer { least: 0, most: 1_000_000_000 }, Default::Is("300"),
        "So many charges a day never trip it, whatever was expected: a small book may double in a day."),
    key("accounts.*.fuse.decline_rate", Kind::Decimal { most: 1 }, Default::Is("0.5"),
        "The share of first tries within an hour whose decline pauses the account, from `sample` of them on. `1`: never."),
    key("accounts.*.fuse.doubt_rate", Kind::Decimal { most: 1 }, Default::Is("0.3"),
        "The share of sends within an hour that end without a clear answer and pause the account. `1`: never."),
    key("accounts.*.fuse.sample", Kind::Integer { least: 1, most: 1_000_000 }, Default::Is("50"),
        "Fewer first tries, or sends, in an hour say nothing of a rate."),
    key("accounts.*.fuse.approvers", Kind::Integer { least: 1, most: 2 }, Default::Is("1"),
        "How many operators, by different names, have to approve what is due once the fuse has blown."),
    key("accounts.*.fuse.approval", Kind::Span { least: "10m", most: "7d" }, Default::Is("\"24h\""),
        "How long an approval lasts. What of its wave has not been sent by then needs another one."),
    key("accounts.*.timezone", Kind::Zone, Default::Is("\"Asia/Seoul\""),
        "The account's time zone: in it the day of budget and fuse begins and ends, and the days and charge times of subscriptions are \
         meant that have no zone of their own, nor their plan."),
    key("accounts.*.mixed_tax", Kind::Boolean, Default::Is("false"),
        "Whether the MID sells taxed and tax-free goods: then `tax_free` and `vat_amount` are sent with every charge. Where \
         they are not given, they are 0 and an eleventh of the rest, rounded half up."),

    key("plans.*.every", Kind::Every, Default::None("`schedule`: a plan has one of them"),
        "How long a period is: a number and `days`, `weeks`, `months`, `quarters`, `half-years` or `years`, counted from the \
         subscription's anchor. From the 31st, shorter months take their last day and the next long month the 31st again."),
    key("plans.*.billing_day", Kind::BillingDay, Default::None("the anchor's day"),
        "The day of the month on which periods start, `1` to `31` or `\"last\"`; shorter months take their last day. An \
         anchor on another day makes a short first period. Only with months, quarters, half-years and years."),
    key("plans.*.schedule", Kind::Schedule, Default::None("`every`: a plan has one of them"),
        "Cron with seconds, in the subscription's zone: periods start on the dates that match, the same for everybody \
         (`0 0 10 1 * *`: on the 1st at 10:00). An anchor on another date makes a short first period. It comes once a day at \
         most."),
    key("plans.*.charge_time", Kind::TimeOfDay, Default::None("`\"10:00\"`; with `schedule`, the time that it names"),
        "Local time of day at which a period's charge falls due, `HH:MM`."),
    key("plans.*.zone", Kind::Zone, Default::None("the account's `timezone`"),
        "The time zone in which days and the charge time are meant."),
    key("plans.*.banking", Kind::Choice(Banking::NAMES), Default::Is("\"none\""),
        "When to charge for a period that starts on a Saturday, a Sunday or a holiday: `none`: on that day; `next` or \
         `previous`: on the next or the previous banking day. The period itself never moves."),
    key("plans.*.amount", AMOUNT, Default::None("each subscription says it"),
        "In minor units: won for KRW, cents for USD."),
    key("plans.*.currency", Kind::Currency, Default::Is("\"KRW\""),
        "ISO 4217 code."),
    key("plans.*.title", Kind::Short(40), Default::None("each subscription says it"),
        "The order title that the payer sees, at most 40 characters (PortOne's limit)."),
    key("plans.*.tax_free", PART, Default::None("PortOne's: 0"),
        "Tax-free part of the amount, in minor units."),
    key("plans.*.vat_amount", PART, Default::None("PortOne's: an eleventh of the taxed part"),
        "VAT part of the amount, in minor units."),
    key("plans.*.while_past_due", Kind::Choice(&["hold", "continue"]), Default::Is("\"hold\""),
        "`hold`: the next period waits while a charge of the subscription is unresolved or in dunning. `continue`: it opens \
         all the same."),

    key("plans.*.trial_days", Kind::Integer { least: 0, most: 3650 }, Default::Is("0"),
        "Days from the anchor on that a subscription that has never been billed is not charged for. The first charge falls \
         due when they are over."),
    key("plans.*.trial_until", Kind::Date, Default::None("`trial_days`"),
        "The first day after the trial, the same for all. Wins over `trial_days`."),
    key("plans.*.trial_anchor", Kind::Choice(&TrialAnchor::NAMES), Default::Is("\"trial_end\""),
        "From where periods are counted after a trial: `trial_end`, from the day on which it ends, or `keep`, from the anchor, \
         with a short first period."),
    key("plans.*.resume", Kind::Choice(&Resume::NAMES), Default::Is("\"keep\""),
        "From where periods are counted after a pause: `keep`, as before (the next period starts on the first boundary \
         after it), or `anchor`, from the day on which it ends, with a charge on that day."),
    key("plans.*.max_periods", Kind::Integer { least: 1, most: 100_000 }, Default::None("no bound"),
        "Periods of one subscription, at most; then it ends."),
    key("plans.*.catch_up", Kind::Choice(&["hold", "all", "latest_only"]), Default::Is("\"hold\""),
        "What becomes of several periods that fell due while nobody opened them, such as after downtime. `hold`: they wait for \
         `rebilld catch-up`. `all`: they are charged one after the other, up to `catch_up_limit`; more wait. `latest_only`: \
         the latest is charged, the others are passed over and told (event `subscription.skipped`). One alone is charged late."),
    key("plans.*.catch_up_limit", Kind::Integer { least: 1, most: 100_000 }, Default::Is("3"),
        "Missed periods of one subscription that `catch_up = \"all\"` charges, at most."),
    key("plans.*.prices[].from", Kind::Date, Default::Required,
        "A dated change of the price, one `[[plans.NAME.prices]]` each: periods that start on this day or later cost `amount`, until the next one. \
         Subscriptions with an amount of their own are not concerned, periods that are open keep theirs."),
    key("plans.*.prices[].amount", AMOUNT, Default::Required,
        "The price from that day on, in minor units."),
    key("plans.*.prices[].tax_free", PART, Default::None("as before, in proportion"),
        "Tax-free part of that price."),
    key("plans.*.prices[].vat_amount", PART, Default::None("as before, in proportion"),
        "VAT part of that price."),

    key("plans.*.dunning", Kind::Name, Default::None("`[dunning.default]`, else the preset `1-3-5-7`"),
        "Which `[dunning.NAME]` a declined charge of this plan is tried again by."),

    key("dunning.*.preset", Kind::Choice(&Preset::NAMES), Default::None("`\"1-3-5-7\"`, without `retry_after` and `exponential`"),
        "A ladder by name; their days are in docs/declines.md."),
    key("dunning.*.retry_after[]", Kind::Span { least: "1d", most: "60d" }, Default::None("`preset`"),
        "When a declined charge is tried again, counted from the first decline: `retry_after = [\"1d\", \"3d\", \"5d\", \"7d\"]`. \
         At most 7: with the first try that is the most that a period may have."),
    key("dunning.*.exponential.initial", Kind::Span { least: "1h", most: "30d" }, Default::None("`retry_after`"),
        "Instead of a list: the first wait. The same card is asked once in 24 hours for one charge, whatever this says."),
    key("dunning.*.exponential.factor", Kind::Decimal { most: 10 }, Default::None("2"),
        "Each wait is so many times as long as the one before; 1 at least."),
    key("dunning.*.exponential.max", Kind::Span { least: "1d", most: "60d" }, Default::None("no bound"),
        "No wait is longer."),
    key("dunning.*.exponential.tries", Kind::Integer { least: 1, most: 7 }, Default::None("5"),
        "Tries after the first decline."),
    key("dunning.*.exponential.jitter", Kind::Decimal { most: 1 }, Default::None("0"),
        "Each wait is moved by up to this part of itself, both ways; always the same for one charge."),
    key("dunning.*.hours", Kind::Hours, Default::Is("\"09:00-18:00\""),
        "Local hours in which a charge is tried again. `[windows]` holds as well."),
    key("dunning.*.preferred_days[]", Kind::BillingDay, Default::None("any day"),
        "Days of the month to which a retry moves on, and from there to the next banking day, unless the charge would be given up \
         before: paydays in Korea are `[10, 15, 20, 25, \"last\"]`."),
    key("dunning.*.give_up", Kind::Span { least: "1d", most: "60d" }, Default::None("`\"14d\"`; with `preset`, its own"),
        "After the first decline: no try, and no new card is waited for beyond it. Then the charge is `unpaid`."),
    key("dunning.*.grace", Kind::Span { least: "0s", most: "30d" }, Default::None("`\"0s\"`, at once"),
        "Time after the first decline before the subscription is `past_due`; the charge itself is told as declined at once."),
    key("dunning.*.end", Kind::Choice(&End::NAMES), Default::Is("\"keep\""),
        "What becomes of the subscription when a charge is given up: `keep` charges the next period as usual, `pause` and \
         `cancel` do that to it."),
    key("dunning.*.classes.*.retry_after[]", Kind::Span { least: "1d", most: "60d" }, Default::None("the ladder above"),
        "A ladder for one class, such as `[dunning.NAME.classes.SOFT_CONTACT]`: SOFT_FUNDS, SOFT_CONTACT, AMBIGUOUS or UNKNOWN. \
         The other classes are not tried by days."),
    key("dunning.*.classes.*.exponential.initial", Kind::Span { least: "1h", most: "30d" }, Default::None("`retry_after`"),
        "Instead of a list, as above: `classes.UNKNOWN.exponential = { initial = \"36h\", tries = 3 }`."),
    key("dunning.*.classes.*.exponential.factor", Kind::Decimal { most: 10 }, Default::None("2"), "As above."),
    key("dunning.*.classes.*.exponential.max", Kind::Span { least: "1d", most: "60d" }, Default::None("no bound"), "As above."),
    key("dunning.*.classes.*.exponential.tries", Kind::Integer { least: 1, most: 7 }, Default::None("5"), "As above."),
    key("dunning.*.classes.*.exponential.jitter", Kind::Decimal { most: 1 }, Default::None("0"), "As above."),

    key("declines.rules[].provider", Kind::Short(40), Default::None("every provider"),
        "PortOne's `pg_provider`, such as `html5_inicis`, exactly."),
    key("declines.rules[].code", Kind::Short(6), Default::None("any"),
        "The code at the start of the text, such as `1254` in `[1254][…]`, exactly."),
    key("declines.rules[].contains", Kind::Short(200), Default::None("any"),
        "A part of the text, in capitals or not. A rule needs a `code`, a part of the text, or both."),
    key("declines.rules[].class", Kind::Choice(&Class::NAMES), Default::Required,
        "What such a refusal is: see docs/declines.md for what each class does."),

    key("windows.hours", Kind::Hours, Default::Is("\"09:00-22:00\""),
        "No charge starts outside these hours, in the charge's own zone; `00:00-24:00` is the whole day. A charge that is due \
         waits for them and says so. Look-ups never wait."),
    key("windows.blackouts", Kind::Blackouts, Default::Is("\"23:30-00:40 Asia/Seoul\""),
        "Hours of every day in which no charge starts, each with its zone, parted by commas; empty for none. The default is \
         the nightly maintenance of Korean banks."),
    key("windows.spread", Kind::Span { least: "0s", most: "12h" }, Default::Is("\"0s\""),
        "Charges that fall due together start over so long a span, each subscription always at its own place in it. `0s`: all \
         at once."),

    key("holidays.extra[]", Kind::Date, Default::None("none"),
        "Days on which banks are closed besides those of the built-in calendar, Korea's of 2024 to 2030."),
    key("holidays.remove[]", Kind::Date, Default::None("none"),
        "Days of the built-in calendar on which banks are open after all."),

    key("jobs.charge", Kind::Cron, Default::Is("\"0 * * * * *\""),
        "When to look for due charges. Jobs only say \"look now\": due instants wake the daemon by themselves in between. \
         Cron with seconds, in UTC."),
    key("jobs.reconcile", Kind::Cron, Default::Is("\"5 * * * * *\""),
        "When to look for doubts whose next look-up is due."),
    key("jobs.audit", Kind::Cron, Default::Is("\"0 17 * * * *\""),
        "When to see whether an audit is due: 48 hours back every hour, 35 days back every day."),
    key("jobs.relay", Kind::Cron, Default::Is("\"30 * * * * *\""),
        "When to look for events whose delivery is due."),
    key("jobs.report", Kind::Cron, Default::Is("\"0 0 0 * * *\""),
        "When to log one line about the last 24 hours: charges, sums, declines, what waits."),
    key("jobs.prune", Kind::Cron, Default::Is("\"0 30 19 * * *\""),
        "When to remove what `[retention]` no longer keeps; never a charge, an attempt, a send or an observation."),

    key("reload.watch", Kind::Boolean, Default::Is("false"),
        "Whether a changed file is taken by itself. Read again every `reload.every`, so that a Kubernetes ConfigMap works."),
    key("reload.every", Kind::Span { least: "1s", most: "1h" }, Default::Is("\"5s\""),
        "How often the files are read again while `reload.watch` is on."),
    key("reload.max_change_count", Kind::Integer { least: 0, most: 1_000_000_000 }, Default::Is("100"),
        "Subscriptions whose charges to come (the next one, and those within 35 days) may move or change in amount by a \
         reload, at most. Beyond it a reload waits for `rebilld config apply --confirm HASH`. What counts is the bound that is \
         in force, not that of the new file."),
    key("reload.max_change_sum", Kind::Integer { least: 0, most: 1_000_000_000_000 }, Default::Is("1000000"),
        "By how much the next charges, or all within 35 days, may change by a reload, at most: minor units, differences up \
         and down added up, for each currency."),

    key("retention.deliveries", Kind::Span { least: "1d", most: "3650d" }, Default::Is("\"90d\""),
        "How long delivered rows of the outbox are kept. Events stay, and can be replayed."),
    key("retention.personal", Kind::Span { least: "1d", most: "3650d" }, Default::None("for ever"),
        "How long buyer names, addresses and the like are kept after a subscription was cancelled and all of its charges \
         are final. Ids, dates and money are never removed."),

    key("worker.batch", Kind::Integer { least: 1, most: 5000 }, Default::Is("256"),
        "Charges that one transaction takes, at most. Larger is faster; all that is sent and not recorded is in doubt after \
         a crash. A trickle is never held back to fill a batch."),
    key("worker.flights", Kind::Integer { least: 1, most: 256 }, Default::Is("64"),
        "Batches of one account that are under way at the same time, at most."),
    key("worker.interval", Kind::Span { least: "1s", most: "10m" }, Default::Is("\"10s\""),
        "The safety net: how long the worker sleeps at most, whatever wakes it otherwise."),
    key("worker.open_ahead", Kind::Span { least: "0s", most: "1h" }, Default::Is("\"60s\""),
        "How long before it falls due a period's charge is opened, so that it is ready on the second."),
    key("worker.quiet", Kind::Span { least: "45m", most: "1d" }, Default::Is("\"60m\""),
        "Q: how long after the newest send a look-up has to begin before its \"not paid\" is believed. Below 45 minutes a \
         stalled process could charge twice."),
    key("worker.shutdown_grace", Kind::Span { least: "1s", most: "10m" }, Default::Is("\"70s\""),
        "How long a stop waits for charges in flight. What has not ended by then is in doubt and looked up at the next \
         start. A charge may take 65 s."),

    key("webhooks[].name", Kind::Name, Default::Required,
        "What deliveries to this endpoint are called in the database. Renaming it leaves its pending deliveries behind."),
    key("webhooks[].url", Kind::HttpUrl, Default::Required,
        "Where events are POSTed. `http://` is accepted on loopback only."),
    key("webhooks[].secret_file", Kind::Path, Default::None("the credential"),
        "A file with the signing secret (`whsec_…`, Standard Webhooks) that not everybody can read."),
    key("webhooks[].secret_credential", Kind::Name, Default::None("`webhook-NAME`, if systemd passes it"),
        "The systemd credential that holds the signing secret."),
    key("webhooks[].allow_private", Kind::Boolean, Default::Is("false"),
        "Whether the endpoint may be at a private or loopback address."),
    key("webhooks[].timeout", Kind::Span { least: "1s", most: "60s" }, Default::Is("\"15s\""),
        "How long an endpoint may take to answer."),

    key("http.listen", Kind::Listen, Default::Is("\"127.0.0.1:9610\""),
        "Where health, metrics and the gateway's webhooks are answered: `ADDRESS:PORT`, or `off`. Port 0 takes any that is free. \
         There is no password: beyond loopback, let only those reach it who may see it (docs/operating.md)."),

    key("log.format", Kind::Choice(&["auto", "text", "json"]), Default::Is("\"auto\""),
        "`auto`: text on a terminal, JSON otherwise."),
    key("log.level", Kind::LogFilter, Default::Is("\"info\""),
        "`error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,rebilld::engine=debug`."),
];

/// A part of a key's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    Field(&'a str),
    /// The name of an account or a plan.
    Any,
    Entry,
}

impl Key {
    pub fn segments(&self) -> impl Iterator<Item = Segment<'static>> {
        self.path
            .split('.')
            .flat_map(|part| match (part, part.strip_suffix("[]")) {
                (_, Some(list)) => [Some(Segment::Field(list)), Some(Segment::Entry)],
                ("*", None) => [Some(Segment::Any), None],
                (field, None) => [Some(Segment::Field(field)), None],
            })
            .flatten()
    }

    /// Whether `path` (fields, names and list indexes as texts) is an instance of this key.
    pub fn matches(&self, path: &[String]) -> bool {
        let mut given = path.iter();
        self.segments().all(|segment| match (segment, given.next()) {
            (Segment::Field(field), Some(part)) => field == part,
            (Segment::Any, Some(name)) => is_name(name),
            (Segment::Entry, Some(index)) => index.bytes().all(|byte| byte.is_ascii_digit()),
            (_, None) => false,
        }) && given.next().is_none()
    }

    pub fn of(path: &[String]) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.matches(path))
    }
}

/// Whether a text may name an account or a plan.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && text.chars().all(|char| char.is_alphanumeric() || "_-".contains(char))
}

impl Kind {
    /// What a value of this kind is called, for messages and the reference.
    pub fn words(&self) -> String {
        match self {
            Self::LogFilter => "text".into(),
            Self::Short(most) => format!("text of 1 to {most} characters"),
            Self::Path => "path".into(),
            Self::Integer { least, most } => format!("whole number, {least} to {most}"),
            Self::Decimal { most } => format!("number, 0 to {most}"),
            Self::Boolean => "true or false".into(),
            Self::Choice(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Self::Span { least, most } => format!("duration, {least} to {most}"),
            Self::TimeOfDay => "time of day".into(),
            Self::Date => "date".into(),
            Self::Zone => "time zone (IANA)".into(),
            Self::Hours => "hours".into(),
            Self::Blackouts => "list of hours with zones".into(),
            Self::Every => "billing interval".into(),
            Self::BillingDay => "whole number, 1 to 31, or \"last\"".into(),
            Self::Schedule => "cron with seconds".into(),
            Self::Cron => "cron with seconds".into(),
            Self::Currency => "currency (ISO 4217)".into(),
            Self::Tag => "tag".into(),
            Self::Tier => "three characters".into(),
            Self::Name => "name".into(),
            Self::DatabaseUrl => "database URL".into(),
            Self::HttpUrl => "URL".into(),
            Self::Listen => "address and port, or \"off\"".into(),
        }
    }

    /// Whether the value is a TOML string (an integer or a boolean otherwise).
    pub fn is_text(&self) -> bool {
        !matches!(self, Self::Integer { .. } | Self::Decimal { .. } | Self::Boolean | Self::BillingDay)
    }

    /// Whether the value may be a TOML string too.
    pub fn may_be_text(&self) -> bool {
        self.is_text() || matches!(self, Self::BillingDay)
    }

    /// What is wrong with a value, written as text; `None` if nothing is.
    pub fn wrong(&self, value: &str) -> Option<String> {
        let say = |known: bool, what: &str| (!known).then(|| what.to_owned());
        match self {
            Self::Path => say(!value.trim().is_empty(), "is empty"),
            Self::Short(most) => {
                let length = value.chars().count();
                say((1..=*most).contains(&length), &format!("has {length} characters; it needs 1 to {most}"))
            }
            Self::Integer { .. } if value.len() > 1 && value.starts_with('0') && value.parse::<i64>().is_ok() => {
                Some("has to be a whole number without leading zeros".to_owned())
            }
            Self::Integer { least, most } => match value.parse::<i64>() {
                Err(_) => Some(format!("has to be a whole number, not `{}`", shown(value))),
                Ok(number) => say((*least..=*most).contains(&number), &format!("has to be {least} to {most}, not {number}")),
            },
            Self::Decimal { most } => {
                let fits = thousandths(value).is_some_and(|number| number <= most.saturating_mul(1000));
                say(fits, &format!("has to be a number from 0 to {most} with up to three decimals, not `{}`", shown(value)))
            }
            Self::Boolean => say(["true", "false"].contains(&value), "has to be true or false"),
            Self::Choice(words) => {
                let list = || self.words();
                say(words.contains(&value), &format!("has to be {}, not \"{}\"", list(), shown(value)))
            }
            Self::Span { least, most } => match value.parse::<Span>() {
                Err(wrong) => Some(wrong.to_string()),
                Ok(span) => {
                    let bound = |text: &str| text.parse::<Span>().unwrap_or(span);
                    let fits = span >= bound(least) && span <= bound(most);
                    say(fits, &format!("has to be {least} to {most}, not {value}"))
                }
            },
            Self::TimeOfDay => {
                say(time_of_day(value).is_some(), &format!("`{}` is not a time of day such as \"10:00\"", shown(value)))
            }
            Self::Date => {
                let fits = value.len() == 10 && value.parse::<Date>().is_ok();
                say(fits, &format!("`{}` is not a date such as \"2026-12-01\"", shown(value)))
            }
            Self::Zone => zone(value).err(),
            Self::Hours => value.parse::<Hours>().err().map(|wrong| wrong.to_string()),
            Self::Blackouts => blackouts(value).err(),
            Self::Every => value.parse::<Every>().err().map(|wrong| wrong.to_string()),
            Self::BillingDay => value.parse::<BillingDay>().err().map(|wrong| wrong.to_string()),
            Self::Schedule => value.parse::<CronSchedule>().err().map(|wrong| wrong.to_string()),
            Self::Cron => cron::wrong(value),
            Self::Currency => value.parse::<Currency>().err().map(|wrong| wrong.to_string()),
            Self::Tag => value.parse::<Tag>().err().map(|wrong| wrong.to_string()),
            Self::Tier => {
                let fits = value.len() == 3 && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
                say(fits, "has to be three letters or digits")
            }
            Self::Name => {
                let fits = is_name(value) && value.is_ascii();
                say(fits, &format!("`{}` is no name: 1 to 64 letters, digits, `-` and `_`", shown(value)))
            }
            Self::DatabaseUrl => match value.strip_prefix("sqlite:") {
                Some(path) => {
                    let path = path.strip_prefix("//").unwrap_or(path);
                    let fits = !path.is_empty() && !path.contains(['?', ':']);
                    say(fits, "has to name a file after `sqlite:`, without parameters: a database in memory would forget charges")
                }
                None => {
                    let fits = ["postgres://", "postgresql://"].iter().any(|scheme| value.starts_with(scheme));
                    say(fits, "has to begin with `sqlite:` (a file) or `postgres://`")
                }
            },
            Self::HttpUrl => checks::http_url(value),
            Self::Listen => {
                let fits = value == "off" || value.parse::<std::net::SocketAddr>().is_ok();
                let text = format!(
                    "`{}` is no address and port such as \"127.0.0.1:9610\" or \"[::1]:9610\", nor \"off\"",
                    shown(value)
                );
                say(fits, &text)
            }
            Self::LogFilter => {
                let parsed = tracing_subscriber::EnvFilter::builder().parse(value);
                parsed.err().map(|_| format!("`{}` is no log level: error, warn, info, debug or trace", shown(value)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
