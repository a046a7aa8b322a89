//! Whether the database still holds the rules that the migrations gave it.

use std::collections::BTreeSet;

use super::db::Fault;
use super::sql::accounts;
use super::{Database, migrations};

impl Database {
    /// Indexes, triggers and constraints that the migrations made and that are gone, switched off or not valid. Empty in a database
    /// that nobody has meddled with; only meaningful once it is migrated.
    pub async fn missing_rules(&self) -> Result<Vec<String>, Fault> {
        let rows = self.db.read(&accounts::RULES, &[]).await?;
        let present = rows.iter().map(|row| row.text("name")).collect::<Result<BTreeSet<String>, _>>()?;
        Ok(migrations::rules(self.is_postgres()).difference(&present).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_that_architecture_names_are_among_those_that_are_looked_for() {
        for postgres in [false, true] {
            let rules = migrations::rules(postgres);
            for name in ["attempts_one", "sends_open", "attempts_imp_uid", "charges_paid_is_final", "journal_chain"] {
                assert!(rules.contains(name), "{name}: {rules:?}");
            }
            assert!(!rules.contains("if") && !rules.contains("on"), "{rules:?}");
        }
    }
}
