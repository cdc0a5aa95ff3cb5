//! The shells' completions and the manual pages, which the build script has made.
//!
//! Must never: be written by hand.

use crate::cli::Shell;

/// Each file's name and text: a shell's name, or a page's such as `leafboot-status.1`.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// A shell's completions.
pub fn completions(shell: Shell) -> &'static str {
    file(match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    })
}

/// leafboot(1).
pub fn manual() -> &'static str {
    file("leafboot.1")
}

/// All manual pages: file name and text.
pub fn manuals() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().copied().filter(|(name, _)| name.ends_with(".1"))
}

fn file(name: &str) -> &'static str {
    FILES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_that_is_shown_has_a_page_and_is_completed() {
        let command = crate::cli::Cli::command();
        for name in command.get_subcommands().filter(|one| !one.is_hide_set()).map(clap::Command::get_name) {
            let page = file(&format!("leafboot-{name}.1"));
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{name}: {page}");
            assert!(manual().contains(&format!("leafboot\\-{name}(1)")), "{name}: {}", manual());
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                assert!(completions(shell).contains(name), "{shell:?} does not know {name}");
            }
        }
        assert!(!manual().contains("completions"), "hidden commands are not described");
        assert!(manuals().count() > 8 && completions(Shell::Bash).contains("--watch"));
    }
}
