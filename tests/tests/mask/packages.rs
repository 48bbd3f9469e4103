//! The unchanged `openai` and `anthropic` packages, streaming and not: the provider sees stand-ins only, the job its own data.

use sluice_tests::client;
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{CARD, EMAIL, TAG, kept_nowhere, record, sent, world};

#[test]
fn the_provider_never_sees_what_the_job_gets_back() {
    let world = world();
    let python = client::python().expect("python clients");
    for (program, key) in
        [("openai_private.py", "OPENAI_API_KEY"), ("anthropic_private.py", "ANTHROPIC_API_KEY")]
    {
        world.seen().forget();
        let mut job = world.job(TAG, &python).expect("a job");
        let ended =
            run(job.arg(client::program(program)).arg(EMAIL).arg(CARD).env(key, "sk-test"), PATIENCE * 2);
        let ended = ended.expect("started");
        assert!(
            ended.good(),
            "{program}: {} {:?}",
            &ended.stderr[ended.stderr.len().saturating_sub(300)..],
            world.seen().requests().last()
        );
        let want = format!("echo: Write to {EMAIL} about {CARD} please");
        let said: Vec<&str> = ended.stdout.lines().collect();
        assert!(said.len() >= 2, "{ended:?}");
        assert!(said.iter().all(|line| *line == want), "{program}: {ended:?}");
        let sent = sent(&world);
        assert!(sent.contains("@masked.example"), "{sent}");
        for value in [EMAIL, "jane.roe", "corp-mail", CARD] {
            assert!(!sent.contains(value), "{program}: {value}: {sent}");
        }
    }
    record(&world, "a chat", |s| s.masked.get("email") == Some(&1) && s.masked.get("card") == Some(&1));
    kept_nowhere(&world, &[EMAIL, "jane.roe", "corp-mail", CARD]);
}
