//! `[accounts.NAME.fuse]`: as it is written, and what it means.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::keys::thousandths;
use super::span::Span;
use crate::domain::fuse::Fuse;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFuse {
    pub amount: i64,
    pub times: Number,
    pub times_from: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour_sum: Option<i64>,
    pub day_times: Number,
    pub day_from: i64,
    pub decline_rate: Number,
    pub doubt_rate: Number,
    pub sample: u32,
    pub approvers: u8,
    pub approval: String,
}

pub(super) fn fuse_of(raw: &RawFuse) -> Fuse {
    // the table of keys has let them through; what it has named is as strict as can be
    let number = |number: &Number| Some(thousandths(&number.to_string()).unwrap_or(0));
    let approval = raw.approval.parse::<Span>().ok().and_then(|span| SignedDuration::try_from(span.0).ok());
    Fuse {
        amount: Some(raw.amount),
        times: number(&raw.times),
        times_from: raw.times_from,
        hour_count: raw.hour_count,
        hour_sum: raw.hour_sum,
        day_times: number(&raw.day_times),
        day_from: raw.day_from,
        decline_rate: number(&raw.decline_rate),
        doubt_rate: number(&raw.doubt_rate),
        sample: raw.sample,
        approvers: raw.approvers,
        approval: approval.unwrap_or(Fuse::NONE.approval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        let raw = serde_json::json!({
            "amount": 20_000, "times": 2.5, "times_from": 1_000, "hour_count": 7, "hour_sum": 70_000, "day_times": 1.5, "day_from": 3,
            "decline_rate": 0.25, "doubt_rate": 0.125, "sample": 9, "approvers": 2, "approval": "2h",
        });
        let meant = Fuse {
            amount: Some(20_000),
            times: Some(2_500),
            times_from: 1_000,
            hour_count: Some(7),
            hour_sum: Some(70_000),
            day_times: Some(1_500),
            day_from: 3,
            decline_rate: Some(250),
            doubt_rate: Some(125),
            sample: 9,
            approvers: 2,
            approval: SignedDuration::from_hours(2),
        };
        assert_eq!(fuse_of(&serde_json::from_value(raw).unwrap()), meant);
    }
}
