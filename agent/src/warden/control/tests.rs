//! The control socket against peers that mean no good.
use super::*;
