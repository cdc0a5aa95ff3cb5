//! Makes the shells' completions and the manual pages from the command line's own description.
//!
//! Must never: describe a command that `leafboot --help` does not show.

use std::fs;
use std::io::Result;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

#[path = "../src/cli.rs"]
#[allow(dead_code, reason = "only the description is needed")]
mod cli;

/// The program's name.
const NAME: &str = "leafboot";

/// Writes the files, and `pages.rs`, which has them all by their names.
pub fn write(directory: &Path) -> Result<()> {
    let mut files = Vec::new();
    for (file, shell) in [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)] {
        let mut text = Vec::new();
        generate(shell, &mut visible(), NAME, &mut text);
        files.push((file.to_owned(), text));
    }
    let mut command = visible();
    command.build();
    files.push((format!("{NAME}.1"), page(command.clone())?));
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        // The page's title; its synopsis has the name that the operator types.
        let name = format!("{NAME}-{}", subcommand.get_name());
        files.push((format!("{name}.1"), page(subcommand.clone().display_name(&name))?));
    }
    let mut list = "[\n".to_owned();
    for (name, text) in &files {
        fs::write(directory.join(name), text)?;
        list += &format!("({name:?}, include_str!({name:?})),\n");
    }
    fs::write(directory.join("pages.rs"), list + "]\n")
}

/// The command without its hidden subcommands.
fn visible() -> clap::Command {
    let all = cli::Cli::command();
    let shown: Vec<clap::Command> = all.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    let mut command = clap::Command::new(NAME).subcommand_required(true).subcommands(shown);
    if let Some(about) = all.get_about() {
        command = command.about(about.clone());
    }
    if let Some(after) = all.get_after_help() {
        command = command.after_help(after.clone());
    }
    command.version(env!("CARGO_PKG_VERSION"))
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    Ok(text)
}
