//! The LSM layer is optional: where the kernel has none the reason is stated, and tags work without it. What its programs
//! do is tested where they load, see `tests/lsm`.

use sluice::warden::kernel::LayerState;

use crate::stage::{Stage, WORLD4};

#[test]
fn without_the_lsm_the_reason_is_stated_and_tags_work() {
    let mut stage = Stage::tagged("nolsm");
    let denied = sluice::config::Config::default().denied_sockets;
    let guarded = stage.kernel.guard(&denied);
    let layers = stage.kernel.layers().iter().filter(|layer| layer.name.starts_with("lsm"));
    let layers: Vec<_> = layers.cloned().collect();
    match guarded {
        Ok(()) => assert!(layers.iter().any(|layer| layer.state == LayerState::Loaded), "{layers:?}"),
        Err(absent) => {
            assert!(!absent.to_string().is_empty());
            assert!(stage.kernel.lsm().is_none());
            let [layer] = &layers[..] else { panic!("one line for the whole: {layers:?}") };
            assert!(matches!(&layer.state, LayerState::Absent(why) if !why.is_empty()), "{layer:?}");
        }
    }
    assert!(stage.dial(&["connect", WORLD4]).starts_with("ok "));
    assert!(stage.origin(&stage.accept(false)).is_some());
}
