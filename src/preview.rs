//! `leafboot plan`: reads the live switch once, and prints the steps, what ports wait for, and which rows are unmanaged.
//! `Plan` in `sonic/openapi.yaml` describes its JSON.
//!
//! Must never: write anything.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use thiserror::Error;

use crate::db::{Db, DbError};
use crate::kernel::links::{self, LinksError};
use crate::kernel::routes;
use crate::state_file::{StateFile, StateFileError};
use leafboot_core::desired::{
    self, Desired, Document, DocumentError, PortRows, Provenance, Rejected, Rejection,
};
use leafboot_core::names::PortName;
use leafboot_core::observed::Observed;
use leafboot_core::plan::{self, Facts, Plan, Remedies, Step};
use leafboot_core::port_role::RaStates;
use leafboot_core::settings::Settings;
use leafboot_core::status::Condition;
use leafboot_core::uplinks::Uplinks;

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// SONiC's databases cannot be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The kernel's links cannot be read.
    #[error(transparent)]
    Links(#[from] LinksError),
    /// The last accepted document cannot be read.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The given document cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The API would refuse the given document as a whole.
    #[error("{path}: {source}")]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: DocumentError,
    },
    /// No document is given, and the state directory has none.
    #[error("no document was ever accepted here; give one with --desired")]
    NoDocument,
}

/// A plan, the document's rejected entries, and the unmanaged rows.
#[derive(Debug)]
pub struct Preview {
    plan: Plan,
    rejected: Rejected,
    unmanaged: Vec<String>,
}

/// Makes the plan for the document in the file `document`, or for the last accepted one, as if it were pushed now.
pub async fn run(settings: &Settings, document: Option<&Path>) -> Result<Preview, PreviewError> {
    let snapshot = Db::connect(&settings.database_config).await?.snapshot().await?;
    let observed = Observed::new(&snapshot, settings);
    let desired = match document {
        Some(path) => read(path, &observed.port_rows(), settings)?,
        None => StateFile::new(&settings.state_directory).restore()?.ok_or(PreviewError::NoDocument)?.desired,
    };
    let desired = Desired { provenance: Provenance::Pushed, ..desired };
    // Only the running agent knows which ports were uplinks in the last minute.
    let uplinks = Uplinks::default().update(settings, &observed, routes::to, Instant::now());
    let vrf = &settings.boot.vrf;
    let is_in_vrf =
        |port: &PortName| observed.ports.get(port).is_some_and(|port| plan::is_managed(port, vrf));
    let desired = desired.reject_uplinks(&uplinks, is_in_vrf);
    let links = links::now()?;
    // Only the running agent knows which final Router Advertisements were sent. In this plan, ports that leave wait for theirs.
    let (ra, remedies) = (RaStates::new(), Remedies::default());
    let facts =
        Facts { desired: Some(&desired), observed: &observed, links: &links, ra: &ra, remedies: &remedies };
    let plan = Plan::new(facts, settings);
    let unmanaged = observed.unmanaged(&snapshot, settings).into_iter().map(str::to_owned).collect();
    Ok(Preview { plan, rejected: desired.rejected, unmanaged })
}

fn read(path: &Path, rows: &PortRows, settings: &Settings) -> Result<Desired, PreviewError> {
    let text = fs::read(path).map_err(|source| PreviewError::File { path: path.to_owned(), source })?;
    let document =
        Document::parse(&text).map_err(|source| PreviewError::Document { path: path.to_owned(), source })?;
    // Rejected ports keep what the last accepted document gave them. A missing or damaged file gives them nothing.
    let before = StateFile::new(&settings.state_directory).restore().ok().flatten().map(|kept| kept.desired);
    let checked = desired::check_entries(&document, rows, &settings.boot, before.as_ref());
    Ok(Desired::after(before.as_ref(), checked, Instant::now()))
}

impl Preview {
    /// Whether the plan has steps.
    pub fn has_steps(&self) -> bool {
        !self.plan.steps.is_empty()
    }

    /// The preview as JSON, for programs.
    pub fn json(&self) -> String {
        let step = |step: &Step| match step {
            Step::Set(key, fields) => {
                // An object also where a row has no fields: an empty LiteMap would serialize as an array.
                let fields: BTreeMap<_, _> = fields.iter().collect();
                json!({ "set": key.to_string(), "fields": fields })
            }
            Step::Clear(key, fields) => json!({ "clear": key.to_string(), "fields": fields }),
            Step::Delete(key) => json!({ "delete": key.to_string() }),
            Step::DeleteAgain(key) => json!({ "announce_gone": key.to_string() }),
        };
        let rejected = |(name, rejection): (&str, &Rejection)| {
            let Rejection { reason, message } = rejection;
            (name.to_owned(), json!({ "reason": reason, "message": message }))
        };
        let anycast = self
            .plan
            .anycast
            .iter()
            .map(|(loopback, fact)| (loopback.to_string(), json!(Condition::from(fact))));
        let waiting =
            self.plan.waiting.iter().map(|(port, fact)| (port.to_string(), json!(Condition::from(fact))));
        let json = Json {
            steps: self.plan.steps.iter().map(step).collect(),
            waiting: Object(waiting.chain(anycast).collect()),
            unchanged: self.plan.unchanged.iter().map(PortName::as_str).collect(),
            rejected: Object(self.rejected.iter().map(rejected).collect()),
            unmanaged: &self.unmanaged,
        };
        // The maps' keys are strings, so serializing cannot fail.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// The JSON form: `Plan` in `sonic/openapi.yaml`.
#[derive(Serialize)]
struct Json<'a> {
    steps: Vec<Value>,
    waiting: Object,
    unchanged: Vec<&'a str>,
    rejected: Object,
    unmanaged: &'a [String],
}

/// A JSON object that keeps the order of its entries: ports are sorted by number, not as text.
struct Object(Vec<(String, Value)>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_steps() {
            writeln!(f, "nothing to write now")?;
        }
        self.plan.fmt(f)?;
        self.rejected.fmt(f)?;
        for key in &self.unmanaged {
            writeln!(f, "unmanaged: {key}")?;
        }
        Ok(())
    }
}
