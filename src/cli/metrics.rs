//! `rebilld metrics`.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{Listing, Output, field, say};
use crate::http::metrics::reference;
use crate::ports::metrics::list::METRICS;

#[derive(Debug, Subcommand)]
pub enum Metrics {
    /// Every metric with its type, unit, labels and meaning
    Reference {
        /// As Markdown: docs/metrics.md
        #[arg(long)]
        markdown: bool,
    },
}

impl Metrics {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::Reference { markdown } = self;
        if markdown && context.output == Output::Table {
            return say(reference().trim_end());
        }
        let rows = METRICS.iter().map(|metric| {
            vec![
                field("metric", metric.name),
                field("type", metric.kind.name()),
                field("unit", metric.unit),
                field("labels", json!(metric.labels)).shown(metric.labels.join(", ")),
                field("meaning", metric.help),
            ]
        });
        Listing { rows: rows.collect(), none: "" }.print(context.output)
    }
}
