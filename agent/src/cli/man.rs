//! The hidden `sluice man`: the manual pages, for packages. What the commands take comes from their definitions, the rest
//! from `man/sections.roff`; sluice.toml(5) is the shipped file with every key.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

/// What no definition of a command has: threat model, files, exit codes.
const SECTIONS: &str = include_str!("man/sections.roff");

/// Every key of the configuration, with its words.
const CONFIG: &str = include_str!("../../../config/sluice.toml");

/// What stands before the keys in sluice.toml(5).
const CONFIG_HEAD: &str = include_str!("man/sluice.toml.roff");

/// Arguments of `sluice man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Where the pages go.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ManArgs {
    /// Writes the pages below `DIR/man1` and `DIR/man5`.
    ///
    /// # Errors
    /// A page cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut command = super::Cli::command().disable_help_subcommand(true);
        command.build();
        for (name, page) in pages(&command)? {
            let path = self.folder.join(name);
            write(&path, &page).with_context(|| path.display().to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(path: &Path, page: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, page)
}

/// Name and text of each page.
fn pages(command: &Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = vec![("man1/sluice.1".to_owned(), page(command, SECTIONS)?)];
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        pages.push((format!("man1/sluice-{}.1", verb.get_name()), page(verb, "")?));
        for below in verb.get_subcommands().filter(|below| !below.is_hide_set()) {
            pages.push((format!("man1/sluice-{}-{}.1", verb.get_name(), below.get_name()), page(below, "")?));
        }
    }
    let config = format!("{CONFIG_HEAD}.SH KEYS\n.nf\n{}.fi\n", verbatim(CONFIG));
    pages.push(("man5/sluice.toml.5".to_owned(), config.into_bytes()));
    Ok(pages)
}

fn page(command: &Command, more: &str) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual("Sluice").date("");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = command.get_after_help() {
        let text = examples.to_string();
        let text = text.trim_start_matches("Examples:").trim_start_matches("Example:");
        write!(page, ".SH EXAMPLES\n.nf\n{}.fi\n", verbatim(text.trim_start_matches('\n')))?;
    }
    page.write_all(more.as_bytes())?;
    if more.is_empty() {
        page.write_all(b".SH SEE ALSO\n\\fBsluice\\fR(1), \\fBsluice.toml\\fR(5)\n")?;
    }
    Ok(page)
}

/// Text as it stands, in roff's terms.
fn verbatim(text: &str) -> String {
    let line = |line: &str| {
        let safe = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
        // What begins a line so would be a request.
        if safe.starts_with('.') { format!("\\&{safe}\n") } else { format!("{safe}\n") }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Weakness;

    fn text(name: &str) -> String {
        let mut command = super::super::Cli::command().disable_help_subcommand(true);
        command.build();
        let pages = pages(&command).expect("a Vec takes all");
        let page =
            pages.into_iter().find(|(page, _)| page == name).unwrap_or_else(|| panic!("no page {name}"));
        String::from_utf8(page.1).expect("text")
    }

    #[test]
    fn every_verb_has_a_page_and_what_is_hidden_has_none() {
        let mut command = super::super::Cli::command().disable_help_subcommand(true);
        command.build();
        let names: Vec<_> =
            pages(&command).expect("a Vec takes all").into_iter().map(|(name, _)| name).collect();
        for name in ["sluice.1", "sluice-doctor.1", "sluice-trust-install.1"] {
            assert!(names.contains(&format!("man1/{name}")), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("gate") || name.contains("self-test")), "{names:?}");
    }

    #[test]
    fn the_pages_say_what_the_words_mean() {
        let main = text("man1/sluice.1");
        for weakness in Weakness::ALL {
            let word = weakness.as_str().replace('-', "\\-");
            assert!(main.contains(&format!("\n.B {word}\n")), "{weakness} is not in sluice(1)");
        }
        assert!(text("man1/sluice-doctor.1").contains(".SH EXAMPLES\n.nf\n  sluice doctor\n"));
        assert!(text("man5/sluice.toml.5").contains("body_limit"));
    }

    #[test]
    fn verbatim_text_asks_roff_for_nothing() {
        assert_eq!(verbatim(".x\n'y\na\\b-c"), "\\&.x\n\\(aqy\na\\eb\\-c\n");
    }
}
