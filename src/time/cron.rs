//! The `[jobs]` ticks: tokio-cron-scheduler rings, and nothing else.
//!
//! A tick carries no data and does no work, because the scheduler loses ticks on restart and drops them under load; due
//! times live in the database, and a plain interval is the safety net. Cron texts have seconds and are read in UTC.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// Why the ticks could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    #[error("jobs.{job}: `{cron}` is not a cron expression of six fields (second minute hour day month weekday): {why}")]
    NotCron { job: String, cron: String, why: JobSchedulerError },
    #[error("the ticks could not be started: {0}")]
    Start(JobSchedulerError),
}

/// What a job does when its time comes. It has to return at once: ring a bell.
pub type Ring = Arc<dyn Fn() + Send + Sync>;

/// Running ticks; they end when this is dropped or shut down.
pub struct Ticks {
    scheduler: JobScheduler,
}

impl Ticks {
    /// Starts a tick for each job: name, cron text, and what to ring.
    pub async fn start(jobs: BTreeMap<String, (String, Ring)>) -> Result<Self, TickError> {
        let scheduler = JobScheduler::new().await.map_err(TickError::Start)?;
        for (job, (cron, ring)) in jobs {
            let tick = Job::new_async(cron.as_str(), move |_, _| {
                let ring = Arc::clone(&ring);
                Box::pin(async move { ring() })
            })
            .map_err(|why| TickError::NotCron { job: job.clone(), cron: cron.clone(), why })?;
            scheduler.add(tick).await.map_err(TickError::Start)?;
        }
        scheduler.start().await.map_err(TickError::Start)?;
        Ok(Self { scheduler })
    }

    pub async fn stop(mut self) {
        // nothing is lost if it fails: a tick carries nothing
        let _ = self.scheduler.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::wake::Wake;

    #[tokio::test]
    async fn a_tick_rings() {
        let wake = Wake::default();
        let ring: Ring = {
            let wake = wake.clone();
            Arc::new(move || wake.ring())
        };
        let jobs = BTreeMap::from([("charge".to_owned(), ("* * * * * *".to_owned(), ring))]);
        let ticks = Ticks::start(jobs).await.unwrap();
        wake.heard().await;
        ticks.stop().await;
    }

    #[tokio::test]
    async fn a_wrong_cron_text_is_named() {
        let jobs = BTreeMap::from([("audit".to_owned(), ("every day".to_owned(), Arc::new(|| {}) as Ring))]);
        let wrong = Ticks::start(jobs).await.err().unwrap().to_string();
        assert!(wrong.contains("jobs.audit") && wrong.contains("every day"), "{wrong}");
    }
}
