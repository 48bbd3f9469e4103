//! Text for people: what `sluice show` prints, of as many exchanges as are wanted.

use std::io::{self, Write};

use super::{Exporter, Said};
use crate::cli::show;
use crate::look::item::Item;

/// See the module.
#[derive(Default)]
pub struct Text {
    /// The session that was written last.
    session: Option<String>,
}

impl Exporter for Text {
    fn add(&mut self, mut out: &mut dyn Write, item: &Item) -> io::Result<Said> {
        let same = self.session.as_ref() == Some(&item.summary.session);
        if !same {
            if self.session.replace(item.summary.session.clone()).is_some() {
                writeln!(out)?;
            }
            show::session_text(
                &mut out,
                &item.summary.session,
                item.session.as_deref(),
                item.tls.as_deref(),
            )?;
        }
        writeln!(out)?;
        show::item_text(&mut out, item)?;
        Ok(Said::Yes)
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
