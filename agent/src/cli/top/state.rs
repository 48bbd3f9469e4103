//! What is looked at, and what keys do. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::gather::Now;
use crate::types::Summary;

/// The lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Exchanges, the newest first.
    Exchanges,
    /// Tags.
    Tags,
    /// Tagged processes.
    Processes,
}

impl Pane {
    /// In the order of their keys.
    pub const ALL: [Self; 3] = [Self::Exchanges, Self::Tags, Self::Processes];

    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::Exchanges => "exchanges",
            Self::Tags => "tags",
            Self::Processes => "processes",
        }
    }
}

/// What a key asks of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing more.
    Nothing,
    /// To end.
    End,
    /// To read this exchange.
    Exchange(String, u32),
}

/// One exchange that is looked at.
#[derive(Debug)]
pub struct Detail {
    /// Its id.
    pub title: String,
    /// Its lines, visible.
    pub lines: Vec<String>,
    /// The first that is shown.
    pub top: usize,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    /// What was gathered last.
    pub now: Now,
    /// The list that is shown.
    pub pane: Pane,
    /// The tag whose exchanges are shown; `None`: all.
    pub tag: Option<String>,
    /// The row that is chosen.
    pub row: usize,
    /// The exchange that is chosen, so that it stays chosen while others come.
    chosen: Option<(String, u32)>,
    /// Set while one exchange is looked at.
    pub detail: Option<Detail>,
    /// Nothing new is taken.
    pub halted: bool,
    /// Colours are wanted.
    pub colour: bool,
    /// Rows that fit on the screen: set when it is drawn.
    pub page: usize,
}

impl State {
    /// Before anything was gathered.
    pub fn new(colour: bool) -> Self {
        Self {
            now: Now::default(),
            pane: Pane::Exchanges,
            tag: None,
            row: 0,
            chosen: None,
            detail: None,
            halted: false,
            colour,
            page: 1,
        }
    }

    /// Takes what was gathered.
    pub fn take(&mut self, now: Now) {
        if self.halted {
            return;
        }
        self.now = now;
        let chosen = self.chosen.as_ref().filter(|_| self.pane == Pane::Exchanges);
        let row = chosen.and_then(|(id, number)| {
            self.exchanges().position(|s| s.session == *id && s.exchange == *number)
        });
        self.row = row.unwrap_or(self.row);
        self.row = self.row.min(self.rows().saturating_sub(1));
    }

    /// The exchanges that are listed.
    pub fn exchanges(&self) -> impl Iterator<Item = &Summary> {
        let tag = self.tag.as_deref();
        self.now.exchanges.iter().filter(move |s| tag.is_none_or(|tag| s.tag == tag))
    }

    /// How many rows the list has.
    pub fn rows(&self) -> usize {
        match self.pane {
            Pane::Exchanges => self.exchanges().count(),
            Pane::Tags => self.tags().count(),
            Pane::Processes => self.now.processes.len(),
        }
    }

    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &crate::control::TagStatus> {
        self.now.status.iter().flatten().flat_map(|status| &status.tags)
    }

    /// Looks at one exchange.
    pub fn detail(&mut self, title: String, lines: Vec<String>) {
        self.detail = Some(Detail { title, lines, top: 0 });
    }

    /// Does what a key says.
    pub fn key(&mut self, key: KeyEvent) -> Asked {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Asked::End } else { Asked::Nothing };
        }
        match key.code {
            KeyCode::Char('q') => return Asked::End,
            KeyCode::Char(' ') => self.halted = !self.halted,
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            KeyCode::Char(digit @ '1'..='3') => self.go(Pane::ALL[digit as usize - '1' as usize]),
            KeyCode::Tab => self.go(Pane::ALL[(self.pane as usize + 1) % Pane::ALL.len()]),
            KeyCode::Up | KeyCode::Char('k') => self.step(false, 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(true, 1),
            KeyCode::PageUp => self.step(false, self.page),
            KeyCode::PageDown => self.step(true, self.page),
            KeyCode::Home | KeyCode::Char('g') => self.step(false, usize::MAX),
            KeyCode::End | KeyCode::Char('G') => self.step(true, usize::MAX),
            KeyCode::Enter => return self.enter(),
            _ => {}
        }
        Asked::Nothing
    }

    fn back(&mut self) {
        if self.detail.take().is_none() && self.tag.take().is_none() {
            self.go(Pane::Exchanges);
        }
    }

    fn go(&mut self, pane: Pane) {
        self.detail = None;
        if self.pane != pane {
            (self.pane, self.row) = (pane, 0);
        }
    }

    fn step(&mut self, down: bool, by: usize) {
        let moved = |at: usize, last: usize| {
            if down { at.saturating_add(by).min(last) } else { at.min(last).saturating_sub(by) }
        };
        if let Some(detail) = &mut self.detail {
            detail.top = moved(detail.top, detail.lines.len().saturating_sub(self.page));
            return;
        }
        self.row = moved(self.row, self.rows().saturating_sub(1));
        // At the top the newest is followed.
        let chosen = self.exchanges().nth(self.row).filter(|_| self.row > 0 && self.pane == Pane::Exchanges);
        self.chosen = chosen.map(|s| (s.session.clone(), s.exchange));
    }

    fn enter(&mut self) -> Asked {
        if self.detail.is_some() {
            return Asked::Nothing;
        }
        let tag = match self.pane {
            Pane::Exchanges => {
                let chosen = self.exchanges().nth(self.row);
                return chosen.map_or(Asked::Nothing, |s| Asked::Exchange(s.session.clone(), s.exchange));
            }
            Pane::Tags => self.tags().nth(self.row).map(|tag| tag.name.to_string()),
            Pane::Processes => self.now.processes.get(self.row).map(|(tag, ..)| tag.clone()),
        };
        if tag.is_some() {
            self.go(Pane::Exchanges);
            self.tag = tag;
        }
        Asked::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::read::list::summary_without_session;

    fn press(state: &mut State, code: KeyCode) -> Asked {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn now(numbers: &[u32]) -> Now {
        let one = |number: &u32| {
            let mut summary = summary_without_session("01J", *number);
            summary.tag = if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned();
            summary
        };
        Now { exchanges: numbers.iter().map(one).collect(), ..Now::default() }
    }

    #[test]
    fn what_is_chosen_stays_chosen_while_others_come() {
        let mut state = State::new(false);
        assert_eq!(press(&mut state, KeyCode::Enter), Asked::Nothing, "nothing is there yet");
        state.take(now(&[3, 2, 1]));
        press(&mut state, KeyCode::Down);
        state.take(now(&[5, 4, 3, 2, 1]));
        assert_eq!(press(&mut state, KeyCode::Enter), Asked::Exchange("01J".to_owned(), 2));
        press(&mut state, KeyCode::Char('g'));
        state.take(now(&[6, 5, 4]));
        assert_eq!(press(&mut state, KeyCode::Enter), Asked::Exchange("01J".to_owned(), 6));
        state.tag = Some("odd".to_owned());
        press(&mut state, KeyCode::Char('G'));
        assert_eq!(press(&mut state, KeyCode::Enter), Asked::Exchange("01J".to_owned(), 5));
        state.take(now(&[]));
        assert_eq!((press(&mut state, KeyCode::Enter), state.row), (Asked::Nothing, 0));
    }

    #[test]
    fn halted_takes_nothing_and_keys_lead_back() {
        let mut state = State::new(false);
        press(&mut state, KeyCode::Char(' '));
        state.take(now(&[1]));
        assert_eq!(state.rows(), 0);
        state.detail("x".to_owned(), vec![String::new(); 10]);
        state.page = 4;
        press(&mut state, KeyCode::End);
        assert_eq!(state.detail.as_ref().map(|d| d.top), Some(6));
        press(&mut state, KeyCode::Esc);
        assert!(state.detail.is_none());
        press(&mut state, KeyCode::Char('3'));
        assert_eq!(state.pane, Pane::Processes);
        press(&mut state, KeyCode::Tab);
        assert_eq!(state.pane, Pane::Exchanges);
        assert_eq!(press(&mut state, KeyCode::Char('q')), Asked::End);
        assert_eq!(state.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Asked::End);
    }
}
