//! The screen. Every word that a caller or a server wrote is made visible before it is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::state::{Pane, State};
use crate::cli::table::{duration, size};
use crate::control::Status;
use crate::record::visible::{Keep, visible};
use crate::types::{Summary, Verdict};

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let rows = [Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)];
    let [head, list, keys] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heads(state)), head);
    // A list has its heads above.
    let heads = usize::from(state.detail.is_none());
    state.page = usize::from(list.height).saturating_sub(heads).max(1);
    match &state.detail {
        Some(detail) => {
            let shown: Vec<Line<'_>> = detail
                .lines
                .iter()
                .skip(detail.top)
                .take(state.page)
                .map(|l| Line::raw(l.as_str()))
                .collect();
            frame.render_widget(Paragraph::new(shown), list);
        }
        None => table(frame, state, list),
    }
    let text = if state.detail.is_some() {
        "arrows scroll  Esc back  q ends"
    } else {
        "1 exchanges  2 tags  3 processes  arrows choose  Enter looks  Esc back  space halts  q ends"
    };
    frame.render_widget(Paragraph::new(Line::styled(text, tone(state, Tone::Dim))), keys);
}

enum Tone {
    Plain,
    Dim,
    Warn,
    Bad,
}

fn tone(state: &State, tone: Tone) -> Style {
    let style = Style::new();
    match tone {
        Tone::Plain => style,
        Tone::Dim => style.add_modifier(Modifier::DIM),
        Tone::Warn if state.colour => style.fg(Color::Yellow),
        Tone::Bad if state.colour => style.fg(Color::Red),
        Tone::Warn | Tone::Bad => style.add_modifier(Modifier::BOLD),
    }
}

fn line(text: &str) -> String {
    visible(text, Keep::Nothing).into_owned()
}

fn heads(state: &State) -> Vec<Line<'static>> {
    let (first, bad) = match &state.now.status {
        None => ("sluice top: asking the daemon".to_owned(), false),
        Some(Err(why)) => (format!("sluice: {}", line(why)), true),
        Some(Ok(status)) => (status_line(status), status.gate.is_none()),
    };
    let rates = &state.now.rates;
    let least = if rates.more { ">" } else { "" };
    let rate = format!(
        "rates    {least}{:.1} exchanges/s, {:.1} denied/s, {}/s up, {}/s down; {} processes tagged",
        rates.exchanges,
        rates.denied,
        size(rates.up as u64),
        size(rates.down as u64),
        state.now.processes.len()
    );
    let mut place = match &state.detail {
        Some(detail) => {
            format!("exchange {}  line {} of {}", detail.title, detail.top + 1, detail.lines.len())
        }
        None => format!("{} ({})", state.pane.title(), state.rows()),
    };
    if let Some(tag) = &state.tag {
        place.push_str(&format!("  of tag {}", line(tag)));
    }
    if state.halted {
        place.push_str("  HALTED");
    }
    let trouble = state.now.trouble.as_ref().map(|why| format!("  {}", line(why)));
    let third = if trouble.is_some() { Tone::Bad } else { Tone::Plain };
    place.push_str(&trouble.unwrap_or_default());
    vec![
        Line::styled(first, tone(state, if bad { Tone::Bad } else { Tone::Plain })),
        Line::raw(rate),
        Line::styled(place, tone(state, third).add_modifier(Modifier::BOLD)),
    ]
}

fn status_line(status: &Status) -> String {
    let sessions = status.sessions.map_or("-".to_owned(), |sessions| sessions.to_string());
    let gate = status.gate.as_ref().map_or("not running".to_owned(), |gate| format!("pid {}", gate.pid));
    let blocked: u64 = status.blocked.values().sum();
    let store = match &status.store {
        Some(store) => match &store.trouble {
            Some(why) => format!("store: {}", line(why)),
            None => format!("store {}", size(store.bytes.unwrap_or(0))),
        },
        None => "no store".to_owned(),
    };
    let mode = line(&status.mode);
    format!(
        "sluice {}, mode {mode}, gate {gate}, {sessions} sessions under way, {store}, blocked {blocked}",
        status.version
    )
}

fn table(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let (heads, widths, rows): (&[&'static str], &[Constraint], Vec<Row<'static>>) = match state.pane {
        Pane::Exchanges => (
            &["TIME", "TAG", "PID", "METHOD", "WHERE", "STATUS", "TOOK", "UP/DOWN", "VERDICT"],
            &[
                Constraint::Length(8),
                Constraint::Max(14),
                Constraint::Length(8),
                Constraint::Length(9),
                Constraint::Fill(1),
                Constraint::Length(6),
                Constraint::Length(8),
                Constraint::Length(12),
                Constraint::Max(20),
            ],
            state.exchanges().map(|s| exchange(state, s)).collect(),
        ),
        Pane::Tags => (
            &["NAME", "KIND", "STATE", "PROCESSES", "TARGET", "TROUBLE"],
            &[
                Constraint::Max(24),
                Constraint::Length(7),
                Constraint::Length(8),
                Constraint::Length(9),
                Constraint::Fill(1),
                Constraint::Fill(1),
            ],
            state.tags().map(|tag| tag_row(state, tag)).collect(),
        ),
        Pane::Processes => (
            &["TAG", "PID", "NAME"],
            &[Constraint::Max(24), Constraint::Length(10), Constraint::Fill(1)],
            state
                .now
                .processes
                .iter()
                .map(|(tag, pid, name)| Row::new([line(tag), pid.to_string(), line(name)]))
                .collect(),
        ),
    };
    let heads = Row::new(heads.iter().copied()).style(tone(state, Tone::Dim));
    let table = Table::new(rows, widths)
        .header(heads)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut chosen = TableState::new().with_selected(Some(state.row));
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn exchange(state: &State, s: &Summary) -> Row<'static> {
    let status = match s.status {
        Some(500..) => Tone::Bad,
        Some(400..) => Tone::Warn,
        _ => Tone::Plain,
    };
    let (verdict, verdict_tone) = match (&s.error, s.verdict) {
        (_, Verdict::Deny) => (format!("deny {}", s.rule.as_deref().unwrap_or("-")), Tone::Warn),
        (Some(error), _) => (error.clone(), Tone::Bad),
        (None, Verdict::Allow) => ("allow".to_owned(), Tone::Plain),
    };
    let took = match (s.duration_us, &s.error) {
        (Some(us), _) => duration(us),
        (None, None) => "…".to_owned(),
        (None, Some(_)) => "-".to_owned(),
    };
    Row::new([
        Cell::new(s.time.get(11..19).unwrap_or_default().to_owned()),
        Cell::new(line(&s.tag)),
        Cell::new(s.pid.to_string()),
        Cell::new(line(s.method.as_deref().unwrap_or(&s.protocol))),
        Cell::new(line(&format!("{}{}", s.host, s.path.as_deref().unwrap_or_default()))),
        Cell::new(s.status.map(|code| code.to_string()).unwrap_or_default()).style(tone(state, status)),
        Cell::new(took),
        Cell::new(format!("{}/{}", size(s.bytes_up), size(s.bytes_down))),
        Cell::new(line(&verdict)).style(tone(state, verdict_tone)),
    ])
}

fn tag_row(state: &State, tag: &crate::control::TagStatus) -> Row<'static> {
    let trouble = tag.trouble.as_deref().map(line).unwrap_or_default();
    Row::new([
        Cell::new(tag.name.to_string()),
        Cell::new(tag.kind.as_str()),
        Cell::new(tag.state.as_str()),
        Cell::new(tag.processes.to_string()),
        Cell::new(line(&tag.target)),
        Cell::new(trouble).style(tone(state, Tone::Bad)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::gather::Now;
    use crate::record::read::list::summary_without_session;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn a_path_cannot_drive_the_screen_and_small_screens_are_survived() {
        let mut state = State::new(true);
        let mut summary = summary_without_session("01J", 1);
        (summary.path, summary.status) = (Some("/a\x1b[2J\u{202e}".to_owned()), Some(500));
        state.take(Now { exchanges: vec![summary], trouble: Some("\x07".to_owned()), ..Now::default() });
        for (width, height) in [(160, 20), (20, 5), (1, 1), (3, 2)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
            terminal.draw(|frame| draw(frame, &mut state)).expect("drawn");
            let screen = terminal.backend().to_string();
            assert!(!screen.contains(['\x1b', '\u{202e}', '\x07']), "{screen}");
            if width == 160 {
                assert!(screen.contains("/a\\x1b[2J\\u{202e}") && screen.contains("500"), "{screen}");
            }
        }
    }
}
