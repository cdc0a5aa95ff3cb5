//! `leafboot plan`: reads the live switch once and says what would be done, what is waited for, and what is foreign.
//!
//! Must never: write anything.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::config::Config;
use crate::db::{Db, DbError};
use crate::desired::{self, Desired, DocumentError, PortRows, Provenance};
use crate::links::{self, LinksError};
use crate::observed::Observed;
use crate::plan::{Plan, Step};
use crate::serving::RaStates;
use crate::store::{Store, StoreError};

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// The databases cannot be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The kernel cannot be asked.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The last accepted document cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The given document cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The given document would be refused.
    #[error("{path}: {source}")]
    Document {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// Nothing was ever pushed.
    #[error("no document was ever accepted here; give one with --desired")]
    NoDocument,
}

/// A plan and what stands beside it.
#[derive(Debug)]
pub struct Preview {
    plan: Plan,
    foreign: Vec<String>,
}

/// Plans for the document in `document`, or for the last accepted one, as if it were pushed now.
pub async fn run(config: &Config, document: Option<&Path>) -> Result<Preview, PreviewError> {
    let snapshot = Db::connect(&config.database_config).await?.snapshot().await?;
    let observed = Observed::new(&snapshot, config);
    let desired = match document {
        Some(path) => read(path, &observed.port_rows(), config)?,
        None => Store::new(&config.state_directory).restore()?.ok_or(PreviewError::NoDocument)?,
    };
    let desired = Desired { provenance: Provenance::Pushed, ..desired };
    let links = links::now()?;
    // Whether a machine was told is known to the running agent only: a port that still has to cease says so.
    let plan = Plan::new(Some(&desired), &observed, &links, &RaStates::new(), config);
    let foreign = observed.foreign(&snapshot, config).into_iter().map(str::to_owned).collect();
    Ok(Preview { plan, foreign })
}

fn read(path: &Path, rows: &PortRows, config: &Config) -> Result<Desired, PreviewError> {
    let text = fs::read(path).map_err(|source| PreviewError::File { path: path.to_owned(), source })?;
    let ports = desired::parse(&text, rows, &config.boot);
    let ports = ports.map_err(|source| PreviewError::Document { path: path.to_owned(), source })?;
    Ok(Desired { generation: 0, provenance: Provenance::Pushed, ports, old: Default::default() })
}

impl Preview {
    /// Whether something would be written now.
    pub fn has_steps(&self) -> bool {
        !self.plan.steps.is_empty()
    }

    /// The preview for programs.
    pub fn json(&self) -> Value {
        let step = |step: &Step| match step {
            Step::Set(key, fields) => json!({ "set": key.to_string(), "fields": fields }),
            Step::Clear(key, fields) => json!({ "clear": key.to_string(), "fields": fields }),
            Step::Delete(key) => json!({ "delete": key.to_string() }),
        };
        let waiting = self.plan.waiting.iter();
        let mut waiting: Map<String, Value> =
            waiting.map(|(port, fact)| (port.to_string(), fact.to_string().into())).collect();
        let anycast = self.plan.anycast.iter();
        waiting.extend(anycast.map(|(loopback, fact)| (loopback.to_string(), fact.to_string().into())));
        json!({
            "steps": self.plan.steps.iter().map(step).collect::<Vec<_>>(),
            "waiting": waiting,
            "unchanged": self.plan.unchanged,
            "foreign": self.foreign,
        })
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_steps() {
            writeln!(f, "nothing to write now")?;
        }
        self.plan.fmt(f)?;
        for key in &self.foreign {
            writeln!(f, "foreign: {key}")?;
        }
        Ok(())
    }
}
