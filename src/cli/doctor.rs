//! `rebilld doctor`.

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Listing, Output, Paint, colours, field, say};
use crate::app::doctor::{Finding, Verdict, examine};

/// It charges nothing, changes nothing and shows no secret; it works beside a running daemon, and without one.
#[derive(Debug, clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let findings = examine(&context.sources).await;
        match context.output {
            Output::Table => say(&told(&findings, context.quiet, Paint(colours())))?,
            output => Listing { rows: findings.iter().map(row).collect(), none: "" }.print(output)?,
        }
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        let failed = findings.iter().filter(|finding| finding.verdict.word() == "fail").count();
        let code = match worst {
            Verdict::Ok | Verdict::Warn => return Ok(()),
            Verdict::Unavailable => Code::Unavailable,
            Verdict::Wrong => Code::Config,
        };
        let s = if failed == 1 { "" } else { "s" };
        Err(Failure::new(code, format!("{failed} check{s} failed")))
    }
}

fn row(finding: &Finding) -> Vec<super::output::Field> {
    vec![
        field("check", finding.check),
        field("subject", finding.subject.as_str()),
        field("result", finding.verdict.word()),
        field("what", finding.what.as_str()),
        field("remedy", finding.remedy.as_str()),
    ]
}

/// A line each, and below what is not well how to right it.
fn told(findings: &[Finding], quiet: bool, paint: Paint) -> String {
    let mut lines = Vec::new();
    let shown = findings.iter().filter(|finding| !quiet || finding.verdict != Verdict::Ok);
    for finding in shown {
        let word = format!("{:<5}", finding.verdict.word());
        let word = match finding.verdict {
            Verdict::Ok => paint.good(&word),
            Verdict::Warn => paint.unsure(&word),
            Verdict::Unavailable | Verdict::Wrong => paint.bad(&word),
        };
        let subject = if finding.subject.is_empty() { String::new() } else { format!("{}: ", finding.subject) };
        lines.push(format!("{word} {:<15}  {subject}{}", finding.check, finding.what));
        if !finding.remedy.is_empty() {
            lines.push(format!("{:>23}{}", "", paint.dim(&format!("-> {}", finding.remedy))));
        }
    }
    lines.join("\n")
}
