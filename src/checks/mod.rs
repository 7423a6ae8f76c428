//! One file per check: from what is known to what is proved, or a [`Denial`](crate::denial::Denial).
//!
//! Each asks for just what it needs and touches nothing else; [`admit`](crate::admit) names them in order.

#[cfg(all(countersign_leaky, feature = "server"))]
compile_error!(
    "countersign_leaky puts faults in on purpose: it is for the control of benches/constant_time.sh alone"
);

/// Whether to leak secrets by time, as the control build of `benches/constant_time.sh` does to show that the bench
/// would see it: comparisons stop at the first difference, nobody's keys are refused at once, and signatures are
/// looked at before times are.
pub(crate) const LEAKY: bool = cfg!(countersign_leaky);

pub(crate) mod address;
pub(crate) mod challenge;
pub(crate) mod decoy;
pub(crate) mod digest;
pub(crate) mod equal;
pub(crate) mod freshness;
pub(crate) mod guard;
pub(crate) mod limit;
pub(crate) mod load;
mod look;
pub(crate) mod meter;
pub(crate) mod otp;
pub(crate) mod passphrase;
pub(crate) mod permission;
pub(crate) mod replay;
pub(crate) mod scratch;
pub(crate) mod seal;
pub(crate) mod signature;
pub(crate) mod state;
pub(crate) mod switches;
pub(crate) mod symbol;
pub(crate) mod syntax;
