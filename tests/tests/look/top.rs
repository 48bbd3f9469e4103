//! `sluice top` in a terminal: what stands on the screen, what keys do, and that the terminal is as it was afterwards.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, eventually, run};

/// A terminal, and the program in it.
struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    own: File,
    theirs: File,
    child: Child,
}

impl Terminal {
    fn start(world: &World) -> Self {
        let (rows, columns) = (NonZero::new(30_u16).expect("30"), NonZero::new(140_u16).expect("140"));
        let size = Winsize { ws_row: rows.get(), ws_col: columns.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a terminal");
        let (own, theirs) = (File::from(pty.master), File::from(pty.slave));
        let mut command = world.daemon().cli(world.space(), &["top", "--store"]).expect("a command");
        command.arg(world.daemon().store()).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let end = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("started");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (mut reader, drawn) = (own.try_clone().expect("a descriptor"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                drawn.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..n]);
            }
        });
        Self { screen, own, theirs, child }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until the screen is as is wanted.
    #[track_caller]
    fn see(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let seen =
            eventually(PATIENCE, || Ok(Some(self.screen()).filter(|screen| wanted(screen)))).expect("asked");
        seen.unwrap_or_else(|| panic!("no {what} on the screen:\n{}", self.screen()))
    }

    fn press(&mut self, keys: &str) {
        self.own.write_all(keys.as_bytes()).expect("typed");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.theirs).expect("a terminal").local_flags.contains(LocalFlags::ICANON)
    }

    /// Whether the alternate screen is shown.
    fn is_alternate(&self) -> bool {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().alternate_screen()
    }

    #[track_caller]
    fn ends(mut self) {
        let ended = eventually(PATIENCE, || Ok(self.child.try_wait()?)).expect("waited");
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", self.screen());
        assert!(!self.is_raw(), "the terminal is as it was");
        let back = eventually(Duration::from_secs(5), || Ok((!self.is_alternate()).then_some(())));
        assert!(back.expect("asked").is_some(), "the alternate screen is left");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CONFIG: &str = "mode = \"enforce\"\n[[rule]]\nname = \"none\"\npath = \"/denied/**\"\nverdict = \"deny\"\n\
                      [[rule]]\nname = \"all\"\nverdict = \"allow\"\n";

#[test]
fn it_shows_what_goes_on_and_leaves_the_terminal_as_it_was() {
    let world = World::with(Options { config: CONFIG.to_owned(), no_roots: true, ..Options::default() });
    let world = world.expect("a world with the agent");
    let ask = |path: &str| {
        let mut curl = world.job("watched", "curl").expect("a job");
        let url = format!("https://www.example.test{path}");
        run(curl.args(["-sS", "-o", "/dev/null", "--json", "{\"a\":1}", &url]), PATIENCE).expect("started")
    };
    assert!(ask("/echo").good());
    let mut terminal = Terminal::start(&world);
    terminal.see("exchange", |s| s.contains("www.example.test/echo") && s.contains("mode enforce"));
    assert!(terminal.is_raw() && terminal.is_alternate());
    assert!(ask("/denied/it").good());
    terminal
        .see("refusal", |s| s.contains("/denied/it") && s.contains("deny none") && s.contains("denied/s"));

    // A job that lives on: its tag, its processes, its exchange under way.
    let mut job = world.job("watched", "curl").expect("a job");
    let slow = "https://www.example.test/slow?ms=20000";
    let mut job = job.args(["-sS", "-o", "/dev/null", slow]).spawn().expect("started");
    terminal.see("exchange under way", |s| s.lines().any(|l| l.contains("/slow") && l.contains('…')));
    terminal.press("2");
    terminal.see("tag", |s| s.lines().any(|l| l.contains("watched") && l.contains("taken")));
    terminal.press("3");
    terminal
        .see("process", |s| s.lines().any(|l| l.starts_with("watched") && l.trim_end().ends_with("curl")));
    terminal.press("\t");
    job.kill().expect("killed");
    job.wait().expect("waited");

    // Into one exchange and back: the oldest stands last.
    terminal.press("G");
    terminal.press("\r");
    let screen = terminal.see("the exchange whole", |s| s.contains("> POST www.example.test/echo"));
    assert!(screen.contains("by rule all"), "{screen}");
    terminal.press("\x1b");
    terminal.see("list", |s| s.contains("exchanges ("));
    terminal.press("q");
    terminal.ends();

    // A signal ends it as well, and puts the terminal back.
    let terminal = Terminal::start(&world);
    terminal.see("exchange", |s| s.contains("www.example.test/echo"));
    kill(Pid::from_raw(terminal.child.id() as i32), Signal::SIGTERM).expect("sent");
    terminal.ends();

    // No terminal: it says so.
    let mut command = world.daemon().cli(world.space(), &["top"]).expect("a command");
    let ended = run(&mut command, PATIENCE).expect("started");
    assert!(ended.status.is_some_and(|s| s.code() == Some(2)) && ended.stderr.contains("needs a terminal"));
}
